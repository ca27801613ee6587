"""Breaks the code, and expects the specification to notice. It first breaks the code in the ways below, which
cargo-mutants does not know, and then in all the ways that cargo-mutants knows. The latter are in the modules that
decide about a target group and change it, and in those of the fleet and the invocation.

`--check` only sees whether the ways below fit the code, and whether each module has files. Without it, this takes an hour
or more, and writes the result to result.txt beside this file.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
MODULES = ("plan", "reconcile", "target_group", "pace", "window", "fleet", "invocation")
# The specification must notice this share of the mutants that compile.
LEAST_SHARE = 0.95
# The test harness accepts --fail-fast only with the variable, which the compiler does not see.
CONFIG = (
    "target.'cfg(all())'.runner=['env','RUSTC_BOOTSTRAP=1']",
    # Each mutant is compiled, and then mostly waits for virtual time.
    "profile.dev.debug=false",
    "profile.dev.package.nlb-hostname-target.opt-level=0",
    "profile.dev.package.stand-in.opt-level=0",
)
# The alarms take as long as all other tests, and are about the template.
TESTS = ("-Z", "unstable-options", "--fail-fast", "--skip=alarms::")


class Mutant(NamedTuple):
    what: str
    file: str
    # The file has this text once.
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "I1: records beside an error are an answer",
        "src/endpoint/lookup.rs",
        "ResponseCode::NoError => Ok(Ok(found)),",
        "_ if !found.addresses.is_empty() => Ok(Ok(found)),",
        "invariants::i1_an_unusable_answer_changes_nothing",
    ),
    Mutant(
        "I2: deregister comes first",
        "src/reconcile/apply.rs",
        "let mut applied = self.register(",
        "self.deregister(&plan.deregister, described, act_by).await?; let mut applied = self.register(",
        "invariants::i2_register_comes_first_and_deregister_only_after_it_succeeded",
    ),
    Mutant(
        "I2: a register that failed does not stop the deregister",
        "src/reconcile/apply.rs",
        "if applied.is_ok() {",
        "{",
        "invariants::i2_register_comes_first_and_deregister_only_after_it_succeeded",
    ),
    Mutant(
        "I3: a draining target is described, and so it is registered",
        "src/plan/comparison.rs",
        "described.partition(|(_, one)| one.is_current());",
        "described.partition(|_| true);",
        "invariants::i3_an_address_that_comes_back_while_draining_is_registered_again",
    ),
    Mutant(
        "I8: an answer counts from its arrival",
        "src/reconcile/resolve.rs",
        "Answer::new(addresses, asked, now() + ttl);",
        "Answer::new(addresses, now(), now() + ttl);",
        "overlap::i8_an_answer_counts_from_its_first_question_and_its_ttl_from_its_last_answer",
    ),
    Mutant(
        "I8: an answer is acted on for twice as long",
        "src/reconcile.rs",
        "let act_by = Instant::now() + ACT;",
        "let act_by = Instant::now() + 2 * ACT;",
        "overlap::i8_a_reconcile_whose_answer_is_too_old_to_act_on_starts_again_and_counts_once",
    ),
    Mutant(
        "fleet: other names hold at once",
        "src/fleet.rs",
        "said.as_ref() == Some(&group.endpoints)",
        "said.is_some()",
        "fleet::a_group_is_left_alone_until_two_lists_in_a_row_have_the_same_names",
    ),
    Mutant(
        "fleet: a list in part is a list",
        "src/fleet/list.rs",
        "let page = page.map_err(|error| aws::cause(&error))?;",
        "let Ok(page) = page else { return Ok(list) };",
        "fleet::a_list_has_all_pages_or_none",
    ),
    Mutant(
        "fleet: a sweep does not begin with those described longest ago",
        "src/invocation/sweep.rs",
        "settled.sort_by_key(|one| one.remembered.swept_at());",
        "",
        "fleet::settled_groups_are_swept",
    ),
]


def files() -> dict[str, list[str]]:
    """Returns the files of each module."""
    found = {module: [*ROOT.glob(f"src/{module}.rs"), *ROOT.glob(f"src/{module}/**/*.rs")] for module in MODULES}
    return {module: [str(path.relative_to(ROOT)) for path in paths] for module, paths in found.items()}


def misfits() -> list[str]:
    found = [f"src/{module}* has no file" for module, paths in files().items() if not paths]
    for mutant in MUTANTS:
        theme, test = mutant.test.split("::")
        for file, text in ((mutant.file, mutant.old), (f"tests/spec/{theme}.rs", f"fn {test}()")):
            count = (ROOT / file).read_text().count(text) if (ROOT / file).exists() else 0
            if count != 1:
                found.append(f"{mutant.what}: {text!r} is {count} times in {file}")
    return found


def passes(test: str) -> bool | None:
    """Returns true if the test passes, and `None` if it did not run to its end."""
    command = ["cargo", "test", "--locked", "--test", "spec", "--", "--exact", test]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "build")}
    said = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True).stdout
    if "test result: ok. 1 passed" in said:
        return True
    return False if "test result: FAILED. 0 passed; 1 failed" in said else None


def survivors() -> list[str]:
    shutil.rmtree(TREE, ignore_errors=True)
    # The copies are newer than what an earlier run built, which may be of a mutant.
    shutil.copytree(ROOT, TREE, ignore=shutil.ignore_patterns("target", ".*"), copy_function=shutil.copy)
    found = []
    for mutant in MUTANTS:
        path = TREE / mutant.file
        sound = path.read_text()
        if not passes(mutant.test):
            found.append(f"{mutant.test} does not pass on the sound code")
        path.write_text(sound.replace(mutant.old, mutant.new))
        if passes(mutant.test) is not False:
            found.append(f"{mutant.what}: {mutant.test} does not notice, or did not run to its end")
        path.write_text(sound)
    return found


def generate() -> bool:
    """Returns true if the specification notices enough of what cargo-mutants does."""
    chosen = [f"--file={path}" for paths in files().values() for path in paths]
    options = [f"--output={WORK}", f"--jobs={os.cpu_count() or 1}", "--timeout=120"]
    of_cargo = ["--cargo-arg=--test=spec", *(f"--cargo-arg=--config={one}" for one in CONFIG)]
    subprocess.run(["cargo", "mutants", *options, *of_cargo, *chosen, "--", "--", *TESTS], cwd=ROOT)
    outcomes = json.loads((WORK / "mutants.out" / "outcomes.json").read_text())
    caught = outcomes["caught"] + outcomes["timeout"]
    viable = caught + outcomes["missed"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    summary = f"{caught} of {viable} caught, {caught / viable:.1%}; {outcomes['unviable']} do not compile"
    missed = (WORK / "mutants.out" / "missed.txt").read_text()
    text = f"{date.today()}, commit {commit}\n\n{summary}\n\nmissed:\n{missed}"
    print(text)
    Path(__file__).with_name("result.txt").write_text(text)
    return caught / viable >= LEAST_SHARE


def main() -> int:
    failures, is_check = misfits(), "--check" in sys.argv[1:]
    if not failures and not is_check:
        failures = survivors()
    print("\n".join([*failures, f"{len(MUTANTS)} mutants, {len(failures)} failures"]))
    is_noticed = is_check or generate()
    return 1 if failures or not is_noticed else 0


if __name__ == "__main__":
    sys.exit(main())
