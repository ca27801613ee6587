"""Follows the README's quick start on the AWS emulator, as a stranger with a target group does, and then the runbook's
emergency stop: the commands as they stand there, each part in one shell.

The test adds only what a stranger's machine has: the values of the variables, and a DNS server that knows the name. `make
build` is not run again, since the Makefile runs it before this test, and other tests deploy what it has built.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import boto3
from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver
from emulator_process import REGION, ROOT, dns_server, emulator, step, use

ENDPOINT = "master.redis.abc123.euw1.cache.amazonaws.com"
SECTION = (ROOT / "README.md").read_text().split("## Quick start")[1].split("\n## ")[0]
VARIABLES, DRY_RUN, SWITCH_ON = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
(OUTPUT,) = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)


RUNBOOK = (ROOT / "docs/operations.md").read_text().split("## Stop it at once")[1].split("\n## ")[0]
STOP, BY_HAND, UNDO = re.findall(r"```console\n(.*?)```", RUNBOOK, re.DOTALL)


class Zone(BaseResolver):
    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        assert str(request.q.qname).rstrip(".").lower() == ENDPOINT
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=1, rdata=A("10.0.2.9")))
        return reply


def create_target_group() -> str:
    """With the demoted primary in it."""
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    elb = boto3.client("elbv2")
    created = elb.create_target_group(Name="redis", Protocol="TCP", Port=6379, VpcId=vpc, TargetType="ip")
    group = created["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "10.0.1.7", "Port": 6379}])
    return group


def targets(group: str) -> list[str]:
    described = boto3.client("elbv2").describe_target_health(TargetGroupArn=group)
    return [health["Target"]["Id"] for health in described["TargetHealthDescriptions"]]


def shell(commands: str) -> str:
    """What the last one prints."""
    done = subprocess.run(["bash", "-ec", commands], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def answer(output: str) -> dict:
    """The last line of what sam remote invoke prints."""
    return json.loads(output.splitlines()[-1])


def run(name_server: str) -> None:
    commands = DRY_RUN.strip().splitlines()
    assert len(VARIABLES.strip().splitlines()) == 3 and len(commands) <= 6, (VARIABLES, commands)
    assert commands[0] == "make build", commands
    group = create_target_group()
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

    path = f"export PATH={ROOT}/.venv/bin:$PATH\n"
    findings = answer(shell(variables + path + SWITCH_ON))["findings"]
    # The group hangs on no load balancer here, and has its defaults.
    found = [finding["id"] for finding in findings]
    assert found == ["load-balancer-missing", "health-check-slow"], found
    assert targets(group) == ["10.0.2.9"]
    step("two more switched it on, and said what is wrong with the group")

    # The AWS CLI is beside this Python.
    path += f"PATH=$PATH:{Path(sys.executable).parent}\n"
    function = shell(path + STOP + 'echo "$FUNCTION"').split()[-1]
    awslambda = boto3.client("lambda")
    try:
        stopped = awslambda.invoke(FunctionName=function, Payload=b"{}")
        raise AssertionError(stopped["Payload"].read())
    except awslambda.exceptions.TooManyRequestsException:
        step("the runbook's commands stopped it at once")
    shell(path + re.sub("(?m)^GROUP=.*", f"GROUP={group}", BY_HAND))
    # To the address that the name does not have, and back.
    swapped = BY_HAND.replace("10.0.2.9", "new").replace("10.0.1.7", "10.0.2.9").replace("new", "10.0.1.7")
    assert targets(group) == ["10.0.2.9"]
    shell(path + re.sub("(?m)^GROUP=.*", f"GROUP={group}", swapped))
    assert targets(group) == ["10.0.1.7"]
    shell(path + STOP.splitlines()[0] + "\n" + STOP.splitlines()[1] + "\n" + UNDO)
    awslambda.invoke(FunctionName=function, Payload=b"{}")
    assert targets(group) == ["10.0.2.9"]
    step("the targets were moved by hand, and after the undo the group follows the name again")

    shell(variables + path + "sam delete --no-prompts")
    assert targets(group) == ["10.0.2.9"]
    step("it was deleted, and left the targets alone")


def main() -> None:
    with emulator() as url, dns_server(Zone()) as address:
        use(url)
        step("an emulator is up, and enforces IAM")
        run(address)


if __name__ == "__main__":
    main()
