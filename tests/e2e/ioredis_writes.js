// This follows a snippet that makes `client`. It writes again and again until it is ended.
const pause = Number(process.env.PAUSE_SECONDS) * 1000;
// The event has errors that a waiting command would not report. They are ignored.
client.on("error", () => undefined);
for (let number = 0; ; number += 1) {
  let outcome;
  try {
    outcome = (await client.set(`ioredis:${number}`, number)) === "OK" ? "written" : "not written";
  } catch (error) {
    outcome = `${error.name}: ${error.message}`;
  }
  console.log(JSON.stringify({ at: Date.now() / 1000, number, outcome }));
  await new Promise((resolve) => setTimeout(resolve, pause));
}
