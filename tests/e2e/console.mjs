// Types into front-door/console.html in a real browser. The argument says in JSON what to open and what to type; what the
// page then showed is printed in JSON.
import { chromium } from "playwright-core";

const { executable, sessions } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath: executable, args: ["--no-sandbox"] });
const results = [];
for (const { page: address, face, url, key, mayWrite, lines, screenshot } of sessions) {
    const page = await browser.newPage({ viewport: { width: 900, height: 620 } });
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => message.text().includes("Content Security Policy") && problems.push(message.text()));
    await page.goto(address);
    await page.selectOption("#face", face);
    await page.fill("#url", url);
    await page.fill("#key", key);
    if (mayWrite) {
        await page.check("#write");
    }
    const transcript = [];
    for (const line of lines) {
        const before = await page.locator("#shown > *").count();
        await page.fill("#typed", line);
        await page.press("#typed", "Enter");
        await page.waitForFunction(
            (count) => document.querySelectorAll("#shown > *").length > count + 1 && !document.getElementById("typed").readOnly,
            before,
        );
        const shown = await page.locator("#shown > *").allTextContents();
        transcript.push(shown.slice(before + 1).join("\n"));
    }
    const recalled = [];
    for (const arrow of ["ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown"]) {
        await page.press("#typed", arrow);
        recalled.push(await page.inputValue("#typed"));
    }
    if (screenshot) {
        await page.fill("#url", "https://example.appsync-api.eu-west-1.amazonaws.com/graphql");
        await page.screenshot({ path: screenshot });
    }
    const stored = await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length);
    results.push({ transcript, recalled, stored, problems });
    await page.close();
}
await browser.close();
console.log(JSON.stringify(results));
