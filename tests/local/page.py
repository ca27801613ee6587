"""Reads what docs/deploy.md says about trying the function locally."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SECTION = (ROOT / "docs/deploy.md").read_text().split("## Try it locally")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^```console\n(.*?)^```", SECTION.replace("\\\n", ""), re.DOTALL | re.MULTILINE)


def command(begin: str) -> list[str]:
    (found,) = [command for command in COMMANDS if command.startswith(begin)]
    return shlex.split(found)


def word_after(begin: str, words: list[str]) -> str:
    (found,) = [word.removeprefix(begin) for word in words if word.startswith(begin)]
    return found


# The page's text about each file of events.
ROWS = dict(re.findall(r"^\| `(events/[\w-]+\.json)` \| (.*) \|$", SECTION, re.MULTILINE))
SAM_LOCAL_INVOKE = command("sam local invoke ")
CARGO_LAMBDA_INVOKE = command("cargo lambda invoke ")
ENDPOINT = word_after("Endpoints=", SAM_LOCAL_INVOKE)
TARGET_GROUP_ARN = word_after("TargetGroupArns=", SAM_LOCAL_INVOKE)
REGION = SAM_LOCAL_INVOKE[SAM_LOCAL_INVOKE.index("--region") + 1]
