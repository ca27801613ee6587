"""Deploys the template for real and lets it run: sam deploy onto an AWS emulator that executes the bootstrap, fires the
schedule, delivers the custom resource's requests and enforces the stack's own role.

It expects the artifact of `sam build`, and `sam` in the path. With the folder of a release as its argument, it deploys
that in the same way, by CloudFormation alone. It starts the emulator and a DNS server on free ports of
loopback, and ends them. The emulator's target groups do not know draining, unlike those of `tests/stand-in`.
`emulator.py` teaches it CloudWatch's permissions.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import jq
from emulator_process import ENDPOINT, REGION, ROOT, Zone, emulator, step, wait_for
from example_stack import Stack, create_target_group, targets
from quick_start import blocks, shell


class Deployment(Stack):
    """A stack of the template."""

    def __init__(self, name: str, dns_server: str) -> None:
        super().__init__(name)
        self.dns_server = dns_server
        self.cloudformation = boto3.client("cloudformation")
        self.awslambda = boto3.client("lambda")

    def sam(self, *arguments: str) -> subprocess.CompletedProcess:
        command = ["sam", *arguments, "--stack-name", self.name, "--region", REGION]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    def try_to_deploy(self, **parameters: str) -> subprocess.CompletedProcess:
        given = [f'{name}="{value}"' for name, value in parameters.items()]
        return self.sam(
            "deploy", "--no-progressbar", "--no-confirm-changeset", "--parameter-overrides", *given
        )

    def delete(self) -> None:
        deleted = self.sam("delete", "--no-prompts")
        assert deleted.returncode == 0, deleted.stderr

    def deploy(self, **parameters: str) -> None:
        deployed = self.try_to_deploy(**parameters)
        assert deployed.returncode == 0, deployed.stdout[-3000:] + deployed.stderr[-3000:]

    def settings(self, target_group: str) -> dict[str, str]:
        return {"Endpoints": ENDPOINT, "TargetGroupArns": target_group, "DnsServers": self.dns_server}

    def status(self) -> str:
        return self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]

    def reasons(self) -> str:
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return "\n".join(event.get("ResourceStatusReason", "") for event in events)

    def schedule(self) -> tuple[str, str, str]:
        """Returns the rule's name, its schedule and its state."""
        rule = boto3.client("events").describe_rule(Name=self.output("RuleName"))
        return rule["Name"], rule["ScheduleExpression"], rule["State"]

    def log(self, message: str) -> list[dict]:
        """Returns the log's lines whose message begins with this text."""
        events = boto3.client("logs").filter_log_events(logGroupName=self.output("LogGroupName"))["events"]
        lines = [event["message"] for event in events if event["message"].startswith("{")]
        return [line for line in map(json.loads, lines) if line.get("message", "").startswith(message)]

    def set_variable(self, name: str, value: str) -> None:
        function = self.output("FunctionName")
        variables = self.awslambda.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        self.awslambda.update_function_configuration(
            FunctionName=function, Environment={"Variables": {**variables, name: value}}
        )

    def invoke(self, event: bytes = b"{}") -> dict:
        answer = self.awslambda.invoke(FunctionName=self.output("FunctionName"), Payload=event)
        return json.loads(answer["Payload"].read())

    def remote_invoke(self, event: str) -> dict:
        """Invokes the function with the README's command."""
        invoked = self.sam("remote", "invoke", "Function", "--event-file", event)
        return json.loads(invoked.stdout[invoked.stdout.index("{") :])

    def findings(self) -> list[str]:
        return [finding["id"] for finding in self.invoke(b'{"diagnose": true}')["findings"]]

    @contextmanager
    def without(self, permission: str, policy: str = "follow") -> Iterator[None]:
        """Takes this permission away from the role while the block runs."""
        iam = boto3.client("iam")
        names = {"RoleName": self.id("Role"), "PolicyName": policy}
        sound = json.dumps(iam.get_role_policy(**names)["PolicyDocument"])
        assert sound.count(permission) == 1, sound
        iam.put_role_policy(**names, PolicyDocument=sound.replace(permission, f"{permission}Not"))
        yield
        iam.put_role_policy(**names, PolicyDocument=sound)


class Released(Deployment):
    """A stack of a release's template, by the commands of the page."""

    folder = "dist"
    bucket = "releases"
    make, *shell = blocks("docs/deploy.md", "Without SAM")[0].strip().splitlines()

    @classmethod
    def commands(cls) -> tuple[str, str]:
        """Returns the page's commands that upload the zip and that deploy it, without the settings of the example."""
        assert cls.make == "make release", cls.make
        variable, upload, *deploy = cls.shell
        page = "\n".join(deploy).replace("--stack-name follow-redis", '--stack-name "$NAME"')
        page, example = page.split('CodeBucket="$BUCKET"')
        assert variable == "BUCKET=my-bucket" and "Endpoints=" in example, cls.shell
        in_folder = [command.replace("dist/", f"{cls.folder}/") for command in (upload, page)]
        return in_folder[0], f"{in_folder[1]}CodeBucket=\"$BUCKET\""

    @classmethod
    def upload(cls) -> None:
        boto3.client("s3").create_bucket(
            Bucket=cls.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        shell(f"BUCKET={cls.bucket}\n{cls.commands()[0]}")

    def try_to_deploy(self, **parameters: str) -> subprocess.CompletedProcess:
        given = " ".join(f"{name}={shlex.quote(value)}" for name, value in parameters.items())
        command = f"BUCKET={self.bucket} NAME={self.name}\n{self.commands()[1]} {given}"
        return subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True)

    def delete(self) -> None:
        self.cloudformation.delete_stack(StackName=self.name)
        self.cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})


def is_passed_by_a_pipeline(answer: dict) -> bool:
    """Returns what the one-liner of the documentation says of the findings."""
    page = (ROOT / "docs" / "diagnose.md").read_text()
    (expression,) = re.findall(r"jq --exit-status '(.*?)'", page)
    return jq.compile(expression).input_value(answer).first()


def failovers(deployment: Deployment) -> float:
    now = time.time()
    statistics = boto3.client("cloudwatch").get_metric_statistics(
        Namespace="NlbHostnameTarget",
        MetricName="Failover",
        Dimensions=[{"Name": "FunctionName", "Value": deployment.output("FunctionName")}],
        StartTime=now - 3600,
        EndTime=now + 60,
        Period=3600,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in statistics["Datapoints"])


def run(zone: Zone, dns_server: str, kind: type[Deployment]) -> None:
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    redis, other = (create_target_group(name, vpc) for name in ("redis", "other"))
    first = kind("redis", dns_server)

    failed = first.try_to_deploy(**{**first.settings(redis), "Endpoints": "nowhere.example.com"})
    assert failed.returncode != 0, failed.stdout
    message = f"cannot resolve nowhere.example.com: {dns_server} answered NXDOMAIN"
    assert message in first.reasons(), first.reasons()
    assert first.status() == "ROLLBACK_COMPLETE", first.status()
    assert targets(redis) == []
    first.delete()
    step("a name that does not resolve failed its deployment with that message, and was rolled back")

    first.deploy(**first.settings(redis))
    assert targets(redis) == ["10.0.1.7"], targets(redis)
    step("when the deployment returned, the group held the right target")

    zone.address = "10.0.2.9"
    took = wait_for(lambda: targets(redis) == ["10.0.2.9"], "the failover", 100)
    step(f"the rule fired by itself, and the group followed the name within {took:.0f} s")

    wait_for(lambda: failovers(first) == 1, "the metric Failover", 20)
    results = first.log("result")
    assert any(group["failover"] for result in results for group in result["targetGroups"]), results
    assert ["10.0.2.9:6379"] in [line["targets"] for line in first.log("registering")]
    step("the metric and the log tell of it")

    failed = first.try_to_deploy(Endpoints="nowhere.example.com")
    assert failed.returncode != 0, failed.stdout
    assert first.status() == "UPDATE_ROLLBACK_COMPLETE", first.status()
    assert targets(redis) == ["10.0.2.9"]
    assert first.invoke()["targetGroups"][0]["endpoints"] == [ENDPOINT]
    step("a setting that is wrong was rolled back to the one before")

    # These are the findings of a group that nobody has set up. The termination of connections is not among them, since
    # the emulator reports it only once it is set.
    as_it_was_made = ["load-balancer-missing", "health-check-slow"]
    answer = first.remote_invoke("events/diagnose.json")
    found = [finding["id"] for finding in answer["findings"]]
    assert found == as_it_was_made, found
    assert not is_passed_by_a_pipeline(answer)
    answer["findings"] = [finding for finding in answer["findings"] if finding["severity"] != "error"]
    assert answer["findings"] and is_passed_by_a_pipeline(answer)
    with first.without("elasticloadbalancing:DescribeTargetGroupAttributes"):
        found = first.findings()
        assert found == ["permission-missing", "load-balancer-missing", "health-check-slow"], found
    step("diagnosed, the stack has what is wrong with its target group, and the permission that it lacks")

    first.deploy(
        RuleName="redis-follow",
        ScheduleExpression="rate(2 minutes)",
        AlarmMinutes="8",
        AlarmEmail="operator@example.com",
        Dashboard="true",
    )
    assert first.schedule() == ("redis-follow", "rate(2 minutes)", "ENABLED"), first.schedule()
    [incident] = boto3.client("cloudwatch").describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert incident["AlarmActions"] == incident["OKActions"] != [], incident
    first.deploy(Enabled="false")
    assert first.schedule() == ("redis-follow", "rate(2 minutes)", "DISABLED"), first.schedule()
    first.deploy(Enabled="true")
    step("another schedule was deployed with alarms and a dashboard, and was disabled and enabled again")

    second = kind("other", dns_server)
    failed = second.try_to_deploy(**second.settings(other), RuleName="redis-follow")
    assert failed.returncode != 0, failed.stdout
    assert "'redis-follow' already exists" in second.reasons(), second.reasons()
    second.delete()
    assert first.schedule() == ("redis-follow", "rate(2 minutes)", "ENABLED"), first.schedule()
    step("a second stack with the name of the first one's rule failed with that name, and left the rule alone")

    cron = "cron(0/2 8-18 ? * MON-FRI *)"
    second.deploy(**second.settings(other), RuleName="other-follow", ScheduleExpression=cron)
    assert targets(other) == ["10.0.2.9"]
    assert second.schedule() == ("other-follow", cron, "ENABLED"), second.schedule()
    assert first.schedule() == ("redis-follow", "rate(2 minutes)", "ENABLED"), first.schedule()
    step("with another name and another schedule it stands beside the first")

    for name, value, error_type in [
        ("TARGET_GROUP_ARNS", other, "RegisterFailed"),
        ("METRIC_NAMESPACE", "Another", "PublishFailed"),
    ]:
        before = boto3.client("lambda").get_function_configuration(FunctionName=first.output("FunctionName"))
        zone.address = "10.0.4.4"
        first.set_variable(name, value)
        denied = first.invoke()
        assert denied["errorType"] == error_type and "AccessDenied" in denied["errorMessage"], denied
        first.set_variable(name, before["Environment"]["Variables"][name])
        zone.address = "10.0.2.9"
    # The schedule follows the name back before the stack is deleted.
    wait_for(lambda: targets(redis) == ["10.0.2.9"], "the way back", 100)
    assert targets(other) == ["10.0.2.9"], targets(other)
    step("another target group and another namespace were denied to the role")

    for deployment, target_group in [(first, redis), (second, other)]:
        before = targets(target_group)
        deployment.delete()
        assert targets(target_group) == before != []
    step("both stacks were deleted, and left their targets alone")


def main() -> None:
    zone, kind = Zone(), Deployment
    with emulator(zone) as address:
        if folder := " ".join(sys.argv[1:]):
            Released.folder, kind = folder, Released
            Released.upload()
        run(zone, address, kind)


if __name__ == "__main__":
    main()
