"""Breaks the code as cargo-mutants does: in every way where it is decided what becomes of a group and where that is done, and in
a sample of the ways elsewhere. Expects the specification to notice 95 % of those that compile.

Writes what came of it, with the commit, to result.txt beside this file. Takes an hour or two, in as many parts as there are
processors. With --missed it tries only those again that were missed, and writes what is left of them.
"""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from fnmatch import fnmatch
from os import cpu_count
from pathlib import Path

from run import ROOT, WORK, copy, environment

RESULT = Path(__file__).with_name("result.txt")
# Everything in these; of the rest so many, drawn by a seed.
IN_FULL = ("src/plan*", "src/reconcile*", "src/target_group*")
SAMPLE, SEED = 60, 1
# Tried at the same time.
PARTS = cpu_count() or 1
LEAST_SHARE = 0.95
# In seconds, of the specification on one mutant. It takes half a minute with nothing beside it.
TIMEOUT = "300"
# The specification mostly waits for a real clock.
TEST_THREADS = {"RUST_TEST_THREADS": "6"}
# The first test that fails is enough. The option is unstable, so the test harness accepts it only with the variable. The compiler
# does not see the variable.
FAIL_FAST = ["-Z", "unstable-options", "--fail-fast"]
RUNNER = "target.'cfg(all())'.runner=['env','RUSTC_BOOTSTRAP=1']"


def cargo_mutants(tree: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess:
    build = tree.with_name(tree.name.replace("tree", "build"))
    return subprocess.run(["cargo", "mutants", "--dir", str(tree), *arguments], env=environment(build) | TEST_THREADS, **options)


def listed(tree: Path) -> list[str]:
    every = json.loads(cargo_mutants(tree, "--list", "--json", check=True, capture_output=True).stdout)
    return [mutant["name"] for mutant in every]


def chosen(tree: Path) -> list[str]:
    names = listed(tree)
    in_full = [name for name in names if any(fnmatch(name, pattern) for pattern in IN_FULL)]
    rest = sorted(set(names) - set(in_full))
    return in_full + random.Random(SEED).sample(rest, min(SAMPLE, len(rest)))


def nameless(name: str) -> str:
    """Without the line and the column, which move."""
    return re.sub(r"^([^:]+):\d+:\d+:", r"\1:", name)


def missed_before(tree: Path) -> list[str]:
    missed = {nameless(line) for line in RESULT.read_text().split("missed:\n")[1].splitlines()}
    return [name for name in listed(tree) if nameless(name) in missed]


def try_part(part: int, choose: Callable[[Path], list[str]]) -> None:
    tree = WORK / f"tree{part}"
    copy(tree)
    is_one = "^(" + "|".join(map(re.escape, choose(tree))) + ")$"
    options = ["--in-place", "--output", str(output(part)), "--timeout", TIMEOUT]
    options += ["--cargo-arg=--test=spec", f"--cargo-arg=--config={RUNNER}"]
    shard = ["--shard", f"{part}/{PARTS}"]
    cargo_mutants(tree, "--re", is_one, *options, *shard, "--", "--", *FAIL_FAST)


def before(tree: Path) -> tuple[str, int, int]:
    """When all were tried; how many are viable, without those that were missed and whose code is gone, of which nobody knows
    whether the tests notice; and how many do not compile."""
    text = RESULT.read_text()
    viable, unviable = re.search(r"of (\d+) caught, .*; (\d+) do not compile", text).groups()
    names = set(map(nameless, listed(tree)))
    gone = [line for line in text.split("missed:\n")[1].splitlines() if nameless(line) not in names]
    return text.splitlines()[0], int(viable) - len(gone), int(unviable)


def output(part: int) -> Path:
    return WORK / f"output{part}"


def main() -> int:
    is_again = "--missed" in sys.argv[1:]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    choose = missed_before if is_again else chosen
    with ThreadPoolExecutor(PARTS) as parts:
        list(parts.map(lambda part: try_part(part, choose), range(PARTS)))
    all_outcomes = [json.loads((output(part) / "mutants.out" / "outcomes.json").read_text()) for part in range(PARTS)]
    count = {kind: sum(outcomes[kind] for outcomes in all_outcomes) for kind in ("caught", "timeout", "missed", "unviable")}
    when = f"{date.today()}, commit {commit}"
    caught = count["caught"] + count["timeout"]
    viable = caught + count["missed"]
    if is_again:
        when, viable, unviable = before(WORK / "tree0")
        when += f"\nwhat was missed again on {date.today()}, commit {commit}"
        caught, count["unviable"] = viable - count["missed"], unviable
    tried = [outcome for outcomes in all_outcomes for outcome in outcomes["outcomes"]]
    missed = [outcome["scenario"]["Mutant"]["name"] for outcome in tried if outcome["summary"] == "MissedMutant"]
    share = caught / viable if viable else 0.0
    text = "\n".join([f"{caught} of {viable} caught, {share:.1%}; {count['unviable']} do not compile", "", "missed:", *missed, ""])
    print(text)
    RESULT.write_text(f"{when}\n\n{text}")
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
