"""Prints what side_by_side.rs has measured, and draws it. With `--document`, it does the same in the documentation,
and adds what the other two benchmarks have printed."""

import json
import math
import pathlib
import platform
import re
import sys
import textwrap

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plot

PROJECT = pathlib.Path(__file__).resolve().parent.parent
BENCH = PROJECT / "target" / "bench"
RESULTS = BENCH / "side_by_side.json"
DOCS = PROJECT / "docs"
# In a page, what follows this mark is what a run has written. In performance.md that goes to the end, in the others to
# the end of the text block.
MARK = "<!-- make bench DOCUMENT=--document writes what follows -->"
PRINTED = {"failover.txt": "timing-and-cost.md", "lost_zone.txt": "how-it-works.md"}
PROGRAMS = {"function": ("this function", "#0072b2"), "python": ("Python, boto3", "#e69f00")}
# The width of a line of the documentation.
WIDTH = 120
MB = 1_000_000
# The prices are those of us-east-1 and x86_64, which is the template's default: https://aws.amazon.com/lambda/pricing/
DOLLARS_PER_GB_SECOND = 0.0000166667
DOLLARS_PER_REQUEST = 0.20 / 1_000_000
GB = 0.125
MINUTES_PER_MONTH = 43_800
# The value of SchedulePollSeconds that the documentation has.
POLLING_SECONDS = 55


def first_result(of):
    return of["start"] + of["first"]


def number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def rows(setting):
    """Yields what is measured, for both, and the function's multiple of its bound."""
    own, other, bound = setting["function"], setting["python"], setting["bound"]
    yield "start to the first request for work", own["start"], other["start"], None
    yield "start to the end of the first reconcile", first_result(own), first_result(other), None
    for name, key in {"first reconcile": "first", "warm reconcile": "warm", "failover": "failover"}.items():
        yield name, own[key], other[key], own[key] / bound[key] if setting["hasLatency"] else None
    yield "peak memory, MiB", own["memory"] / 1024, other["memory"] / 1024, None


def table(results):
    """Writes the results as a table in Markdown."""
    lines = [
        "| | in milliseconds | this function | Python | times as much | of the bound |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for setting in results["settings"]:
        if "missing" in setting:
            lines.append(f"| {setting['setting']} | not measured: {setting['missing']} | | | | |")
            continue
        for name, own, other, of_bound in rows(setting):
            of_bound = f"{of_bound:.2f}" if of_bound else ""
            cells = [setting["setting"], name, number(own), number(other), f"{other / own:.1f}", of_bound]
            lines.append(f"| {' | '.join(cells)} |")
    sizes = results["sizes"]
    instructions = sizes["instructionsOfAWarmReconcile"]
    instructions = f"{instructions:,}" if isinstance(instructions, int) else instructions
    text = (
        f"Medians of {results['runs']} processes of each, in turn. The binary has {sizes['binaryBytes'] / MB:.2f} MB, its zip "
        f"{sizes['zipBytes'] / MB:.2f} MB. With 25 target groups the process occupies {sizes['memoryOf25Groups'] / 1024:.1f} MiB. "
        f"Instructions of a warm reconcile: {instructions}. {versions()}"
    )
    return "\n".join([*lines, "", fill(text), "", *cost(results["durations"])])


def fill(text):
    """Breaks a text into lines. A link stays whole."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def cost(durations):
    """Writes what the compute of a month costs, in Markdown."""
    if "missing" in durations:
        return [f"What Lambda bills was not measured: {durations['missing']}."]
    once, many, python = (durations[name] / 1000 for name in ("function", "functionWith25Groups", "python"))
    rows = {
        "once a minute, or with notifications": (once, many, python),
        f"polling for {POLLING_SECONDS} s of each minute": (POLLING_SECONDS + once, POLLING_SECONDS + many, None),
    }

    def cell(seconds):
        if seconds is None:
            return ""
        dollars = MINUTES_PER_MONTH * (math.ceil(seconds * 1000) / 1000 * GB * DOLLARS_PER_GB_SECOND + DOLLARS_PER_REQUEST)
        return f"{seconds:.2f} s, ${dollars:.2f}"

    return [
        "| An invocation in which nothing moves, and the compute of a month | 1 target group | 25 | Python, 1 |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {' | '.join(map(cell, seconds))} |" for name, seconds in rows.items()),
        "",
        fill(
            f"128 MB of x86_64 in us-east-1, at ${DOLLARS_PER_GB_SECOND:.10f} a GB-second and $0.20 a million requests, by durations that "
            "were measured here, over TLS with 40 ms a call, 5 ms for DNS and Elastic Load Balancing's token buckets, "
            "which spread the reads of 25 groups over more than a second. "
            "[timing-and-cost.md](timing-and-cost.md#what-it-costs) has what else is billed."
        ),
    ]


def versions():
    """Names the versions of Python and of what it needs."""
    requirements = (PROJECT / "benches" / "python" / "requirements.txt").read_text().splitlines()
    pinned = [line.replace("==", " ") for line in requirements if "==" in line and not line.startswith("matplotlib")]
    return f"Python {platform.python_version()} with {', '.join(pinned)}."


def draw(results, path):
    # The same result gives the same picture, and text stays text.
    plot.rcParams |= {"svg.hashsalt": "side by side", "svg.fonttype": "none"}
    measured = [
        (f"{what}\n{setting['setting']}", figure, setting)
        for setting in results["settings"]
        if "missing" not in setting
        for what, figure in {"start to the first result": first_result, "warm reconcile": lambda of: of["warm"]}.items()
    ]
    chart, axes = plot.subplots(figsize=(9, 0.6 * len(measured)), layout="constrained")
    for row, (_, figure, setting) in enumerate(measured):
        own, other = (figure(setting[program]) for program in PROGRAMS)
        axes.plot([own, other], [row, row], color="#c0c0c0", zorder=1)
        for milliseconds, side, aside in ((own, "right", -7), (other, "left", 7)):
            place = {"xy": (milliseconds, row), "xytext": (aside, 0), "textcoords": "offset points"}
            axes.annotate(number(milliseconds), **place, ha=side, va="center", fontsize=8)
        for program, milliseconds in zip(PROGRAMS, (own, other)):
            name, colour = PROGRAMS[program]
            axes.scatter(milliseconds, row, color=colour, label=name if row == 0 else None, zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(0.4, 1000)
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    axes.set_yticks(range(len(measured)), [label for label, _, _ in measured], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.spines[["top", "right"]].set_visible(False)
    chart.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    chart.savefig(path, metadata={"Date": None})


def document(results):
    draw(results, DOCS / "side-by-side.svg")
    page = DOCS / "performance.md"
    before, _, _ = page.read_text().partition(MARK)
    page.write_text(f"{before}{MARK}\n\n{table(results)}\n")
    for printed, name in PRINTED.items():
        # What the benchmark says of itself ends with an empty line.
        _, _, figures = (BENCH / printed).read_text().partition("\n\n")
        page = DOCS / name
        lines = "\n".join(line.rstrip() for line in figures.strip("\n").splitlines())
        block = f"{MARK}\n\n```text\n{lines}\n```"
        text, times = re.subn(rf"{MARK}\n\n```text\n.*?\n```", lambda _: block, page.read_text(), flags=re.DOTALL)
        assert times == 1, f"{name} has no place for {printed}"
        page.write_text(text)


def main():
    results = json.loads(RESULTS.read_text())
    print(table(results))
    draw(results, RESULTS.with_suffix(".svg"))
    if sys.argv[1:] == ["--document"]:
        document(results)


if __name__ == "__main__":
    main()
