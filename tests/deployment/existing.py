"""Puts a load balancer in front of a cache that exists, with the commands of docs/existing-cluster.md, on an AWS
emulator.

The page's console blocks run in order, in one shell for each part, on an emulated account that has a cache like many: a
topic, a security group that others use too, and a port of its own. `sam build` and `sam delete` are not run. The
first is replaced by an artifact that is built already and a copy of the example. The second does not recognize the
address of a nested template at the emulator as one of S3, so the test deletes the stack in its place.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import boto3
from emulator_process import ROOT, Zone, emulator, step
from example_stack import (
    CLIENT_CIDR,
    VPC_CIDR,
    ExampleStack,
    copy_for_the_emulator,
    create_network,
    expect_listeners,
    expect_notified,
    expect_target_group,
    expect_variables,
    fail_over,
    permissions,
    run,
    subscriptions,
)

EXAMPLE = ROOT / "examples" / "existing-cluster.yaml"
PAGE = ROOT / "docs" / "existing-cluster.md"
CLUSTER = "redis"
CACHE_PORT = 6390
NETWORK_OF_OTHERS = "10.0.8.0/24"


class Account:
    """The account before the test. It has a cache in a network, and a rule of the cache's security group admits an
    application."""

    def __init__(self) -> None:
        self.vpc, self.subnets = create_network()
        ec2, elasticache = boto3.client("ec2"), boto3.client("elasticache")
        group = ec2.create_security_group(GroupName="cache", Description="Cache", VpcId=self.vpc)
        self.security_group = group["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=self.security_group,
            IpProtocol="tcp",
            FromPort=CACHE_PORT,
            ToPort=CACHE_PORT,
            CidrIp=NETWORK_OF_OTHERS,
        )
        elasticache.create_cache_subnet_group(
            CacheSubnetGroupName="cache", CacheSubnetGroupDescription="Cache", SubnetIds=self.subnets
        )
        self.topic = boto3.client("sns").create_topic(Name="cache-events")["TopicArn"]
        elasticache.create_replication_group(
            ReplicationGroupId=CLUSTER,
            ReplicationGroupDescription="Cache",
            Engine="valkey",
            NumCacheClusters=2,
            AutomaticFailoverEnabled=True,
            TransitEncryptionEnabled=True,
            Port=CACHE_PORT,
            CacheSubnetGroupName="cache",
            SecurityGroupIds=[self.security_group],
            NotificationTopicArn=self.topic,
        )
        self.before = self.describe()

    def describe(self) -> list:
        """Describes the cache, its nodes and their security group."""
        elasticache = boto3.client("elasticache")
        return [
            elasticache.describe_replication_groups()["ReplicationGroups"],
            elasticache.describe_cache_clusters()["CacheClusters"],
            permissions(self.security_group, "IpPermissions"),
            permissions(self.security_group, "IpPermissionsEgress"),
        ]


class Page:
    """The page's commands. Later parts know what earlier ones have set, as in the shell of somebody who follows the
    page."""

    def __init__(self, template: Path, folder: str) -> None:
        blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        names = ("find the values", "deploy", "look", "switch on", "delete")
        assert len(blocks) == len(names), "the page has other commands than those that are run here"
        self.blocks = {name: for_the_emulator(block, template, folder) for name, block in zip(names, blocks)}
        self.folder = folder
        self.variables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(self, part: str) -> None:
        after = Path(self.folder, "variables")
        run(["bash", "-c", f"set -aeuo pipefail\n{self.blocks[part]}env -0 > {after}"], **self.variables)
        self.variables = dict(line.split("=", 1) for line in after.read_text().split("\0") if line)

    def answer(self, file: str) -> dict:
        return json.loads(Path(self.folder, file).read_text())


def for_the_emulator(block: str, template: Path, folder: str) -> str:
    """Makes the block deploy the copy of the example, and keep the answers beside it."""
    block = re.sub(r"^sam build .*\n", "", block, flags=re.MULTILINE)
    block = block.replace(".aws-sam/existing/template.yaml", str(template))
    return re.sub(r"(?<= )(?=[a-z-]+\.json$)", f"{folder}/", block, flags=re.MULTILINE)


def the_values_were_found(account: Account, page: Page) -> None:
    expected = {
        "CLUSTER": CLUSTER,
        "CLIENTS": CLIENT_CIDR,
        "ENDPOINT": f"master.{CLUSTER}.example.com",
        "PORT": str(CACHE_PORT),
        "SECURITY_GROUP": account.security_group,
        "TOPIC": account.topic,
        "TOPIC_STATUS": "active",
        "VPC": account.vpc,
        "RANGE": VPC_CIDR,
        "SUBNETS": ",".join(account.subnets),
    }
    found = {name: page.variables[name] for name in expected}
    assert found == expected, found


def the_listener_leads_to_the_target_group(account: Account, example: ExampleStack) -> None:
    expect_listeners(example, {6379: "TargetGroup"})
    expect_target_group(example.id("TargetGroup"), CACHE_PORT)


def the_load_balancer_is_admitted_to_the_cache(account: Account, example: ExampleStack) -> None:
    balancer = example.id("LoadBalancerSecurityGroup")
    assert permissions(account.security_group, "IpPermissions") == [
        ("tcp", CACHE_PORT, CACHE_PORT, [NETWORK_OF_OTHERS], []),
        ("tcp", CACHE_PORT, CACHE_PORT, [], [balancer]),
    ], permissions(account.security_group, "IpPermissions")
    assert permissions(balancer, "IpPermissionsEgress") == [("tcp", CACHE_PORT, CACHE_PORT, [VPC_CIDR], [])]
    assert permissions(balancer, "IpPermissions") == [("tcp", 6379, 6379, [CLIENT_CIDR], [])]


def the_function_follows_the_endpoint(account: Account, example: ExampleStack) -> None:
    expect_variables(
        example.function("Follow"),
        ENDPOINTS=f"master.{CLUSTER}.example.com",
        TARGET_GROUP_ARNS=example.id("TargetGroup"),
        ALLOWED_CIDRS=VPC_CIDR,
        DRY_RUN="true",
    )
    expect_notified(example.function("Follow"), account.topic)


def the_outputs_say_where_clients_connect(account: Account, example: ExampleStack) -> None:
    assert example.output("Port") == "6379"
    assert example.output("ServerName") == f"master.{CLUSTER}.example.com"
    assert example.output("TargetGroupArn") == example.id("TargetGroup")
    assert example.output("FunctionName") == example.function("Follow")["FunctionName"]


def alarms(example: ExampleStack) -> list[str]:
    return example.ids_of(("AWS::CloudWatch::Alarm",), example.id("Follow"))


def topics(example: ExampleStack) -> list[str]:
    return example.ids_of(("AWS::SNS::Topic",), example.id("Follow"))


def follow_the_page(zone: Zone, template: Path, folder: str) -> None:
    account, page = Account(), Page(template, folder)
    example = ExampleStack(f"{CLUSTER}-nlb")
    page.run("find the values")
    the_values_were_found(account, page)
    step("the values of the cache that exists were found")

    page.run("deploy")
    step("its load balancer and its function are deployed, as a dry run")
    for check in (
        the_listener_leads_to_the_target_group,
        the_load_balancer_is_admitted_to_the_cache,
        the_function_follows_the_endpoint,
        the_outputs_say_where_clients_connect,
    ):
        check(account, example)
        step(check.__name__.replace("_", " "))
    assert alarms(example) == topics(example) == []

    page.run("look")
    [group] = page.answer("dry-run.json")["targetGroups"]
    assert group["registered"] == [f"10.0.1.7:{CACHE_PORT}"], group
    assert example.targets("TargetGroup") == []
    step("the dry run said what it would do, and registered nothing")

    page.run("switch on")
    assert example.targets("TargetGroup") == ["10.0.1.7"]
    assert page.answer("findings.json") == {"findings": []}, page.answer("findings.json")
    step("switched on, it has the right target, and is sound")

    fail_over(example, zone, "TargetGroup", account.topic, f"{CLUSTER}-001")

    example.deploy(template, AlarmEmail="operator@example.com")
    [topic] = topics(example)
    [subscription] = subscriptions(topic)
    assert subscription["Endpoint"] == "operator@example.com", subscription
    assert example.targets("TargetGroup") == ["10.0.2.9"]
    assert len(alarms(example)) == 6, alarms(example)
    step("an address for alarms was added, and the other parameters kept their values")

    topic, cron = boto3.client("sns").create_topic(Name="alarms")["TopicArn"], "cron(0/2 8-18 ? * MON-FRI *)"
    schedule = {"RuleName": "redis-follow", "ScheduleExpression": cron, "AlarmMinutes": "8", "SchedulePauses": "true"}
    example.deploy(template, AlarmTopicArn=topic, **schedule)
    assert example.schedule("Follow") == ("redis-follow", cron), example.schedule("Follow")
    assert topics(example) == [], "it has a topic of its own"
    assert [one["Endpoint"] for one in subscriptions(topic)] == ["operator@example.com"], subscriptions(topic)
    assert len(alarms(example)) == 4, "without those that know whether it runs"
    step("its rule got a name and a schedule that pauses, and its alarms a topic that exists")

    page.variables |= {"CLUSTER": "second", "TOPIC": ""}
    page.run("deploy")
    second = ExampleStack("second-nlb")
    assert len(permissions(account.security_group, "IpPermissions")) == 3
    assert len(subscriptions(account.topic)) == 1, "the second one has none"
    second.delete()
    the_load_balancer_is_admitted_to_the_cache(account, example)
    step("a second one, without a topic, stood beside it, and left alone what is not its own")

    assert page.blocks["delete"].startswith("sam delete --stack-name"), page.blocks["delete"]
    example.delete()
    assert account.describe() == account.before, account.describe()
    elb = boto3.client("elbv2")
    assert elb.describe_target_groups()["TargetGroups"] == [] == elb.describe_load_balancers()["LoadBalancers"]
    assert subscriptions(account.topic) == []
    step("deleted, it left the cache as it was, without the rule")


def main() -> None:
    zone = Zone()
    with emulator(zone) as address, tempfile.TemporaryDirectory() as folder:
        follow_the_page(zone, copy_for_the_emulator(EXAMPLE, folder, address), folder)


if __name__ == "__main__":
    main()
