"""Breaks the code in each way that mutants.md tells, and expects the tests named there to notice.

Fails if one of them does not pass on the sound code, or if a mutant does not fit, does not compile or survives. With names
of mutants it tries only those; with --check it only sees whether they fit.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
LOG = WORK / "log"
SIMULATION = "simulation"


class Replacement(NamedTuple):
    file: str
    old: str
    new: str

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        path.write_text(self.pattern().sub(lambda _: self.new, path.read_text()))

    def occurrences(self) -> int:
        path = ROOT / self.file
        return len(self.pattern().findall(path.read_text())) if path.exists() else 0

    def pattern(self) -> re.Pattern:
        tokens = re.findall(r"\w+|[^\w\s]", self.old)
        return re.compile(r"\s*".join(map(re.escape, tokens)))


class Mutant(NamedTuple):
    name: str
    tests: list[str]
    replacements: list[Replacement]


def read() -> list[Mutant]:
    def lines(text: str, sign: str) -> str:
        return "\n".join(line[1:] for line in text.splitlines() if line.startswith(sign))

    mutants = []
    for section in re.split(r"^## ", (ROOT / "tests" / "mutants" / "mutants.md").read_text(), flags=re.M)[1:]:
        tests = re.findall(r"^- `(.+)`$", section, flags=re.M)
        blocks = re.findall(r"^`([^`\n]+)`\n\n```diff\n(.*?)^```$", section, flags=re.M | re.S)
        replacements = [Replacement(file, lines(text, "-"), lines(text, "+")) for file, text in blocks]
        mutants.append(Mutant(section.splitlines()[0], tests, replacements))
    return mutants


def misfits(mutants: list[Mutant]) -> list[str]:
    """What is no mutant of this code."""
    found = []
    for mutant in mutants:
        if not mutant.tests or not mutant.replacements:
            found.append(f"{mutant.name}: names no test, or replaces nothing")
        found += [f"{mutant.name}: there is no {test}" for test in mutant.tests if not exists(test)]
        for replacement in mutant.replacements:
            if (count := replacement.occurrences()) != 1:
                found.append(f"{mutant.name}: {replacement.old!r} is {count} times in {replacement.file}")
    return found


def exists(test: str) -> bool:
    if test == SIMULATION:
        return True
    theme, name = test.split("::")
    path = ROOT / "tests" / "spec" / f"{theme}.rs"
    return path.exists() and f"fn {name}()" in path.read_text()


def copy(tree: Path) -> None:
    """What git knows and does not ignore, so that the work tree stays as it is."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    shutil.rmtree(tree, ignore_errors=True)
    for file in files:
        if file and (ROOT / file).exists():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            # Newer than what an earlier run built, which may be of a mutant.
            shutil.copy(ROOT / file, tree / file)


def environment(build: Path) -> dict[str, str]:
    """The copy's own binary is tested, and the copy is no part of a repository."""
    changed = {"CARGO_TARGET_DIR": str(build), "GIT_CEILING_DIRECTORIES": str(WORK)}
    return {name: value for name, value in {**os.environ, **changed}.items() if name != "FUNCTION_BINARY"}


def cargo(*arguments: str) -> bool:
    with LOG.open("w") as log:
        command = ["cargo", "test", "--locked", "--workspace", *arguments]
        return subprocess.run(command, cwd=TREE, env=environment(WORK / "build"), stdout=log, stderr=log).returncode == 0


def compiles() -> bool:
    return cargo("--test", "spec", "--test", SIMULATION, "--no-run")


def passes(test: str) -> bool | None:
    """`None` where it did not run to its end."""
    is_simulation = test == SIMULATION
    chosen = ["--test", SIMULATION, "--", "--brief"] if is_simulation else ["--test", "spec", "--", "--exact", test]
    is_passed = cargo(*chosen)
    said = LOG.read_text()
    passed, failed = r"^test result: ok\. 1 passed|^violations   0", r"^test result: FAILED\. 0 passed; 1 failed|^VIOLATION"
    if is_passed and re.search(passed, said, flags=re.M):
        return True
    return False if not is_passed and re.search(failed, said, flags=re.M) else None


def tried(mutant: Mutant) -> list[str]:
    """The failures."""
    sound = {replacement.file: (TREE / replacement.file).read_text() for replacement in mutant.replacements}
    for replacement in mutant.replacements:
        replacement.apply(TREE)
    failures = [] if compiles() else [f"{mutant.name}: does not compile\n{LOG.read_text()[-2000:]}"]
    for test in [] if failures else mutant.tests:
        if passes(test) is False:
            print(f"killed    {mutant.name} by {test}", flush=True)
        else:
            failures.append(f"{mutant.name}: survives {test}, or that did not run to its end\n{LOG.read_text()[-2000:]}")
    for file, text in sound.items():
        (TREE / file).write_text(text)
    return failures


def main() -> int:
    arguments = sys.argv[1:]
    mutants = read()
    failures = misfits(mutants)
    if names := [argument for argument in arguments if argument != "--check"]:
        mutants = [mutant for mutant in mutants if mutant.name in names]
    if len(mutants) < len(names):
        failures.append("a name that mutants.md does not have")
    if not failures and "--check" not in arguments:
        WORK.mkdir(parents=True, exist_ok=True)
        copy(TREE)
        if not compiles():
            sys.exit(LOG.read_text())
        for test in sorted({test for mutant in mutants for test in mutant.tests}):
            if not passes(test):
                failures.append(f"{test}: does not pass on the sound code")
        for mutant in mutants:
            failures += tried(mutant)
    for failure in failures:
        print("FAILED   ", failure)
    print(f"{len(mutants)} mutants, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
