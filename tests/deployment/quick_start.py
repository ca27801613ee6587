"""Follows the README's quick start on the AWS emulator, as a stranger with a target group does. Then it names the rule
and its schedule, and types the runbook. It runs the commands as they stand there, each part in one shell.

The test adds only what a stranger's machine has: the values of the variables, and a DNS server that knows the name. It
does not run `make build` again, since the Makefile runs it before this test, and other tests deploy what it has built.
Of the runbook's commands, only the planned failover is left out, since the stack has no cluster.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import boto3
from emulator_process import REGION, ROOT, Zone, emulator, step
from example_stack import create_target_group, targets


def blocks(page: str, heading: str, language: str = "console") -> list[str]:
    """Returns the blocks between this heading and the next one."""
    _, section = re.split(rf"^#+ {heading}$", (ROOT / page).read_text(), flags=re.MULTILINE)
    found = re.findall(rf"^ *```{language}\n(.*?)```", re.split(r"\n#+ ", section)[0], re.DOTALL | re.MULTILINE)
    return [dedent(block) for block in found]


ENDPOINT = "master.redis.abc123.euw1.cache.amazonaws.com"
VARIABLES, DRY_RUN, SWITCH_ON = blocks("README.md", "Quick start")
(OUTPUT,) = blocks("README.md", "Quick start", "json")
(SCHEDULES,) = blocks("README.md", "Settings that people change")
(SCHEDULE,) = blocks("docs/configuration.md", "The schedule")

RUNBOOK = "docs/operations.md"
(STACK,) = blocks(RUNBOOK, "Operations")
(DIAGNOSE,) = blocks(RUNBOOK, "Diagnose")
(WHERE,) = blocks(RUNBOOK, "See where the clients go")
STOP, BY_HAND, UNDO = blocks(RUNBOOK, "Stop it at once")
(INVOKE,) = blocks(RUNBOOK, "FunctionNotRunning")
SUBSCRIBE, UNCONFIRMED, FILTER = blocks(RUNBOOK, "A pager")
(MUTE,) = blocks(RUNBOOK, "Mute for maintenance")
(HAPPENED,) = blocks(RUNBOOK, "What happened")


def create_group() -> str:
    """Creates a target group with the demoted primary in it."""
    group = create_target_group("redis", boto3.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])
    boto3.client("elbv2").register_targets(TargetGroupArn=group, Targets=[{"Id": "10.0.1.7", "Port": 6379}])
    return group


def shell(commands: str, folder: Path = ROOT) -> str:
    """Runs the commands, and returns what they print."""
    done = subprocess.run(["bash", "-ec", commands], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def answer(output: str) -> dict:
    """Reads the last line of what sam remote invoke prints."""
    return json.loads(output.splitlines()[-1])


def run(name_server: str) -> None:
    commands = DRY_RUN.strip().splitlines()
    assert len(VARIABLES.strip().splitlines()) == 3 and len(commands) <= 6, (VARIABLES, commands)
    assert commands[0] == "make build", commands
    group = create_group()
    variables = f"export AWS_DEFAULT_REGION={REGION}\nENDPOINT={ENDPOINT}\nGROUP={group}\n"
    assert re.sub("(?m)=.*", "=", variables) == re.sub("(?m)=.*", "=", VARIABLES)
    assert ENDPOINT in VARIABLES and REGION in VARIABLES
    deploy = "sam deploy --parameter-overrides"
    assert DRY_RUN.count(deploy) == SWITCH_ON.count(deploy) == 1

    followed = "\n".join(commands[1:]).replace(deploy, f"{deploy} DnsServers={name_server}")
    dry_run = answer(shell(variables + followed))
    expected = json.loads(OUTPUT)
    expected["targetGroups"][0]["targetGroupArn"] = group
    assert dry_run == expected, dry_run
    assert targets(group) == ["10.0.1.7"]
    step(f"{len(commands)} commands led to the README's dry run")

    path = f"export PATH={ROOT}/.venv/bin:{Path(sys.executable).parent}:$PATH\n"
    findings = answer(shell(variables + path + SWITCH_ON))["findings"]
    # The group has no load balancer here, and it has its defaults.
    found = [finding["id"] for finding in findings]
    assert found == ["load-balancer-missing", "health-check-slow"], found
    assert targets(group) == ["10.0.2.9"]
    step("two more switched it on, and said what is wrong with the group")

    name_the_schedule(variables + path)
    with tempfile.TemporaryDirectory() as folder:
        shell(variables + path + "sam deploy --parameter-overrides AlarmEmail=operator@example.com SchedulePauses=false")
        follow_the_runbook(group, path, Path(folder))
    stop_it(group, path)

    shell(variables + path + "sam delete --no-prompts")
    assert targets(group) == ["10.0.2.9"]
    step("it was deleted, and left the targets alone")


def name_the_schedule(variables: str) -> None:
    events = boto3.client("events")
    commands = [*SCHEDULES.strip().splitlines(), SCHEDULE]
    schedules = ["rate(5 minutes)", "cron(0/2 8-18 ? * MON-FRI *)", "rate(5 minutes)"]
    for command, schedule in zip(commands, schedules, strict=True):
        shell(variables + command)
        rules = [(rule["Name"], rule["ScheduleExpression"]) for rule in events.list_rules()["Rules"]]
        assert rules == [("redis-follow", schedule)], rules
    step("the commands for a schedule named the rule and set its schedule, with a rate and with a cron")

    unquoted = re.sub(r"'(.*?)\"(.*?)\"'", r"'\1\2'", SCHEDULE)
    refused = subprocess.run(["bash", "-ec", variables + unquoted], cwd=ROOT, capture_output=True, text=True)
    assert unquoted != SCHEDULE and refused.returncode != 0, refused.stdout
    assert "ScheduleExpression" in refused.stderr, refused.stderr
    step("without the inner quotes the template refused what the SAM CLI made of it")


def for_version_1(commands: str) -> str:
    """Adapts the commands to the AWS CLI beside this Python, which takes a payload as it is and cannot tail a log.
    The emulator does not filter by JSON."""
    commands = commands.replace(" --cli-binary-format raw-in-base64-out", "")
    return re.sub(
        r"aws logs tail (\S+) --since 1h", r"aws logs filter-log-events --output text --log-group-name \1", commands
    )


def follow_the_runbook(group: str, path: str, folder: Path) -> None:
    def typed(commands: str) -> str:
        commands = re.sub("(?m)^GROUP=.*", f"GROUP={group}", commands)
        return shell(path + for_version_1(STACK + commands), folder)

    typed(DIAGNOSE)
    found = [finding["id"] for finding in json.loads((folder / "findings.json").read_text())["findings"]]
    assert found == ["load-balancer-missing", "health-check-slow"], found
    where = typed(WHERE).split()
    assert where[0] == "10.0.2.9", where
    happened = typed(HAPPENED)
    assert "registering" in happened and "deregistering" in happened, happened
    assert '"reconciles": 1' in typed(INVOKE)
    step("the runbook's commands diagnosed, and said where the clients go and what happened")

    topic = SUBSCRIBE.split("aws sns subscribe")[0]
    typed(SUBSCRIBE)
    unconfirmed = typed(topic + UNCONFIRMED).split()
    assert unconfirmed == ["email", "operator@example.com"], unconfirmed
    subscription = typed(topic + FILTER + 'echo "$SUBSCRIPTION"').split()[-1]
    attributes = boto3.client("sns").get_subscription_attributes(SubscriptionArn=subscription)["Attributes"]
    [condition] = json.loads(attributes["FilterPolicy"])["AlarmName"]
    assert attributes["FilterPolicyScope"] == "MessageBody" and "example.com/pager" in attributes["Endpoint"], attributes
    # The emulator does not know mute rules, so the AWS CLI only checks the parameters.
    assert MUTE.count("put-alarm-mute-rule") == 1
    checked = MUTE.replace("put-alarm-mute-rule", "put-alarm-mute-rule --generate-cli-skeleton output")
    muted = typed(checked + "echo $ALARMS").split()[-1].split(",")
    assert len(muted) == 7, muted
    kept = [name for name in muted if not name.startswith(condition["anything-but"]["prefix"])]
    assert [name.split("-")[3] for name in muted if name not in kept] == ["FailoverHappened"], (muted, condition)
    step("they named the address that has not confirmed, kept failovers from a pager, and listed what to mute")


def stop_it(group: str, path: str) -> None:
    awslambda = boto3.client("lambda")
    function = shell(path + STACK + STOP + 'echo "$FUNCTION"').split()[-1]
    try:
        stopped = awslambda.invoke(FunctionName=function, Payload=b"{}")
        raise AssertionError(stopped["Payload"].read())
    except awslambda.exceptions.TooManyRequestsException:
        step("the runbook's commands stopped it at once")
    shell(path + re.sub("(?m)^GROUP=.*", f"GROUP={group}", BY_HAND))
    # The swapped commands move the targets to the address that the name does not have.
    swapped = BY_HAND.replace("10.0.2.9", "new").replace("10.0.1.7", "10.0.2.9").replace("new", "10.0.1.7")
    assert targets(group) == ["10.0.2.9"]
    shell(path + re.sub("(?m)^GROUP=.*", f"GROUP={group}", swapped))
    assert targets(group) == ["10.0.1.7"]
    shell(path + STACK + UNDO)
    awslambda.invoke(FunctionName=function, Payload=b"{}")
    assert targets(group) == ["10.0.2.9"]
    step("the targets were moved by hand, and after the undo the group follows the name again")


def main() -> None:
    zone = Zone()
    zone.address = "10.0.2.9"
    with emulator(zone) as address:
        run(address)


if __name__ == "__main__":
    main()
