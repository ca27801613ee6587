"""Checks the pages against what they speak of: links and their anchors, parameters in commands, versions, costs and
counts.

It does not check what a test or `make bench` writes into a page. It needs only the standard library.
"""

import json
import re
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.md")])
TEXT = {page: page.read_text() for page in PAGES}
TIMING = TEXT[ROOT / "docs/timing-and-cost.md"]
PERFORMANCE = TEXT[ROOT / "docs/performance.md"]
TEMPLATES = [ROOT / "template.yaml", ROOT / "front-door/template.yaml", *sorted(ROOT.glob("examples/*.yaml"))]


def parameters(template: Path) -> set[str]:
    section = re.search(r"^Parameters:\n((?: .*\n|\n)*)", template.read_text(), re.MULTILINE)[1]
    return set(re.findall(r"^  (\w+):$", section, re.MULTILINE))


def says(page: str, sentence: str) -> None:
    """Checks that the page has the sentence, however its lines are broken."""
    assert sentence in re.sub(r"\s+", " ", TEXT[ROOT / page]), f"{page} does not say {sentence!r}"


def anchors(text: str) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    outside_code = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", outside_code, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(slugs) == len(set(slugs)), f"two headings with one name: {sorted(slugs)}"
    return set(slugs)


def leads_somewhere(target: str, page: Path) -> bool:
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page
    return file.exists() and (not anchor or anchor in anchors(file.read_text()))


def every_relative_link_leads_somewhere() -> None:
    for page, text in TEXT.items():
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        local = [link for link in links if not re.match(r"https?:", link)]
        broken = [link for link in local if not leads_somewhere(link, page)]
        assert not broken, f"{page.name}: {broken}"


def every_page_is_linked_from_the_readme() -> None:
    for page in ROOT.glob("docs/*.md"):
        says("README.md", f"](docs/{page.name}")


def every_page_that_code_names_is_there() -> None:
    """Alarm descriptions and messages name pages relative to the root."""
    crates = [ROOT, ROOT / "drill", ROOT / "front-door", ROOT / "probe"]
    sources = [*TEMPLATES, *(source for crate in crates for source in crate.glob("src/**/*.rs"))]
    found = 0
    for source in sources:
        for page, anchor in re.findall(r"\b(docs/[\w-]+\.md)(#[\w-]+)?", source.read_text()):
            assert leads_somewhere(page + anchor, ROOT / "README.md"), f"{source.name}: {page}{anchor}"
            found += 1
    assert found > 5, found


def every_finding_is_in_its_table() -> None:
    """The function that follows names has headings for its findings, which its own specification checks."""
    shared = re.findall(r'=> "([a-z-]+)",$', (ROOT / "probe/src/problem.rs").read_text(), re.MULTILINE)
    for page, source in (("docs/drill.md", "drill/src/once.rs"), ("docs/front-door.md", "front-door/src/diagnose.rs")):
        own = re.findall(r'Finding::error\(\s*"([a-z-]+)"', (ROOT / source).read_text())
        table = re.search(r"^\| Finding \|.*\n((?:\|.*\n)+)", TEXT[ROOT / page], re.MULTILINE)[1]
        listed = re.findall(r"`([a-z-]+)`", " ".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)))
        assert own and sorted(listed) == sorted([*shared, *own]), set(listed) ^ {*shared, *own}


def every_parameter_of_a_command_exists() -> None:
    # The release's template has two more.
    of_the_release = re.findall(r'^    "(Code\w+)": \{$', (ROOT / "release/release.py").read_text(), re.MULTILINE)
    known = set(of_the_release).union(*map(parameters, TEMPLATES))
    found = set()
    for page, text in TEXT.items():
        for block in re.findall(r"^ *```console\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            for command in re.sub(r"\\\n", " ", block).splitlines():
                _, _, given = command.partition("--parameter-overrides")
                names = set(re.findall(r"\b([A-Z]\w+)=", re.sub(r"'[^']*'|\"[^\"]*\"", "", given)))
                assert names <= known, f"{page.name}: {names - known}"
                found |= names
    assert {"Endpoints", "TargetGroupArns", "DryRun"} < found, found


def every_question_to_aws_has_an_experiment() -> None:
    text = TEXT[ROOT / "docs/live.md"]
    questions = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    assert questions == [str(number) for number in range(1, len(questions) + 1)], questions
    experiments = re.findall(r"\d+", " ".join(re.findall(r"^\*\*([\d and]+)\.\*\* ", text, re.MULTILINE)))
    assert questions == experiments != [], experiments


def the_readme_is_short() -> None:
    lines = TEXT[ROOT / "README.md"].count("\n")
    assert lines <= 180, lines


def money(pattern: str, text: str) -> float:
    found = set(re.findall(pattern, text))
    assert len(found) == 1, f"{pattern}: {found}"
    return float(found.pop())


def the_cost_of_a_month_is_the_sum_of_its_parts() -> None:
    compute, polling = (
        money(rf"\| {mode}[^|]* \| [\d.]+ s, \$([\d.]+) \|", PERFORMANCE)
        for mode in ("once a minute", "polling for 55 s of each minute")
    )
    says("docs/timing-and-cost.md", f"| Compute | ${compute:.2f} once a minute or with notifications, ${polling:.2f} polling")
    row = TIMING.split("| CloudWatch metrics |")[1].split("\n")[0]
    others = sum(float(dollars) for dollars in re.findall(r"\$([\d.]+) for", row))
    others += money(r"about \$([\d.]+) \|", TIMING)
    sums = [f"{compute + others:.1f}0", f"{polling + others:.1f}0"]
    says("docs/timing-and-cost.md", f"${sums[0]} once a minute or with notifications, ${sums[1]} polling")
    kinds = re.findall(r"^    Type: (\S+)$", TEMPLATES[0].read_text(), re.MULTILINE)
    metric, composite = (kinds.count(f"AWS::CloudWatch::{kind}") for kind in ("Alarm", "CompositeAlarm"))
    assert (metric, composite) == (7, 1)
    # One of them is there only with a fleet.
    alarms = (metric - 1) * 0.1 + composite * 0.5
    says("docs/timing-and-cost.md", f"| ${alarms:.2f}: six metric alarms and a composite one |")
    says("docs/operations.md", f"${alarms:.2f} a month together")
    says("README.md", f"about ${sums[0]} a month beside the load balancer, or ${compute + others + alarms:.1f}0 with its alarms")


def the_counts_are_those_of_the_tables() -> None:
    table = TIMING.split("E2E=\"--all --document\" writes what follows -->")[1]
    failovers = len(re.findall(r"^\| (?!Failover|---)", table, re.MULTILINE))
    says("README.md", f"four clients through {failovers} failovers")
    says("docs/timing-and-cost.md", f"six of the {failovers} in the table")
    simulation = (ROOT / "tests/simulation/figures.rs").read_text()
    sequences = int(re.search(r"FULL_RUN: u64 = ([\d_]+)", simulation)[1].replace("_", ""))
    for page in ("README.md", "docs/testing.md"):
        says(page, f"{sequences:,} of them")


def the_versions_are_those_that_are_installed() -> None:
    rust = re.search(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    for page in ("README.md", "CONTRIBUTING.md"):
        says(page, f"Rust {rust} or newer")
    pinned = (ROOT / "tests/e2e/requirements.txt").read_text()
    packages = json.loads((ROOT / "tests/e2e/package.json").read_text())["dependencies"]
    version = {name: re.search(rf"^{name}==([\d.]+)", pinned, re.MULTILINE)[1] for name in ("redis", "Django")}
    short = [".".join(number.split(".")[:2]) for number in (version["Django"], packages["ioredis"].lstrip("^~"))]
    says("docs/clients.md", f"redis-py {version['redis']}, Django {short[0]}, ioredis {short[1]}")
    pinned = (ROOT / "tests/deployment/requirements.txt").read_text()
    ministack, moto = re.findall(r"^(?:ministack|moto\[server\])==(.*)$", pinned, re.MULTILINE)
    says("docs/testing.md", f"| Story | ministack {ministack} | moto {moto} |")


def main() -> None:
    for name, check in list(globals().items()):
        if name.startswith(("every_", "the_")):
            check()
            print(name.replace("_", " "))


if __name__ == "__main__":
    main()
