"""A stack of an example on the AWS emulator, and what is expected of every example.

This expects the artifact of `sam build`, and `sam` in the path. The functions ask a DNS server of the test, for which
the examples have no setting. A copy of an example differs only in that and in the place of the built template.
"""

import json
import os
import subprocess
from pathlib import Path

import boto3
from emulator_process import REGION, ROOT, Zone, step, wait_for
from samtranslator.yaml_helper import yaml_parse

VPC_CIDR = "10.0.0.0/16"
CLIENT_CIDR = "192.168.0.0/16"


class Stack:
    def __init__(self, name: str) -> None:
        self.name = name

    def outputs(self) -> dict[str, str]:
        stack = boto3.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def output(self, name: str) -> str:
        return self.outputs()[name]

    def id(self, resource: str, stack: str | None = None) -> str:
        described = boto3.client("cloudformation").describe_stack_resource(
            StackName=stack or self.name, LogicalResourceId=resource
        )
        return described["StackResourceDetail"]["PhysicalResourceId"]


class ExampleStack(Stack):
    def deploy(self, template: Path, **parameters: str) -> None:
        command = [
            *("sam", "deploy", "--stack-name", self.name, "--region", REGION, "--template-file", str(template)),
            *("--resolve-s3", "--no-progressbar", "--no-confirm-changeset"),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
            *("--parameter-overrides", *(f'{name}="{value}"' for name, value in parameters.items())),
        ]
        run(command)

    def delete(self) -> None:
        """Deletes the stack without the SAM CLI, which does not recognize the address of a nested template at the
        emulator as one of S3."""
        cloudformation = boto3.client("cloudformation")
        cloudformation.delete_stack(StackName=self.name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})

    def ids_of(self, types: tuple[str, ...], stack: str | None = None) -> list[str]:
        """Returns the ids of the resources of these types."""
        resources = boto3.client("cloudformation").list_stack_resources(StackName=stack or self.name)
        return [
            resource["PhysicalResourceId"]
            for resource in resources["StackResourceSummaries"]
            if resource["ResourceType"] in types
        ]

    def function(self, application: str) -> dict:
        """Returns the function of a nested application."""
        name = self.id("Function", stack=self.id(application))
        return boto3.client("lambda").get_function_configuration(FunctionName=name)

    def schedule(self, application: str) -> tuple[str, str]:
        """Returns the name and the schedule of the rule of a nested application."""
        rule = boto3.client("events").describe_rule(Name=self.id("FunctionSchedule", stack=self.id(application)))
        return rule["Name"], rule["ScheduleExpression"]

    def findings(self, application: str) -> list[str]:
        name = self.function(application)["FunctionName"]
        answer = boto3.client("lambda").invoke(FunctionName=name, Payload=b'{"diagnose": true}')
        return [finding["id"] for finding in json.loads(answer["Payload"].read())["findings"]]

    def targets(self, group: str) -> list[str]:
        return targets(self.id(group))


def targets(group: str) -> list[str]:
    described = boto3.client("elbv2").describe_target_health(TargetGroupArn=group)
    return sorted(health["Target"]["Id"] for health in described["TargetHealthDescriptions"])


def create_target_group(name: str, vpc: str) -> str:
    created = boto3.client("elbv2").create_target_group(Name=name, Protocol="TCP", Port=6379, VpcId=vpc, TargetType="ip")
    return created["TargetGroups"][0]["TargetGroupArn"]


def subscriptions(topic: str) -> list[dict]:
    return boto3.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]


def fail_over(example: ExampleStack, zone: Zone, group: str, topic: str, cache: str) -> None:
    """Moves the name, and expects that the group follows it after a notification."""
    zone.address = "10.0.2.9"
    message = json.dumps({"ElastiCache:FailoverComplete": cache})
    boto3.client("sns").publish(TopicArn=topic, Message=message)
    took = wait_for(lambda: example.targets(group) == ["10.0.2.9"], "the failover", 20)
    step(f"a notification of the failover was followed within {took:.0f} s")


def expect_variables(function: dict, **expected: str) -> None:
    variables = function["Environment"]["Variables"]
    assert {name: variables[name] for name in expected} == expected, variables


def expect_notified(function: dict, topic: str) -> None:
    """Expects that the topic notifies the function, and only through its queue."""
    [subscription] = subscriptions(topic)
    sources = boto3.client("lambda").list_event_source_mappings(EventSourceArn=subscription["Endpoint"])
    [source] = sources["EventSourceMappings"]
    assert source["FunctionArn"] == function["FunctionArn"], source


def run(command: list[str], **variables: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def resource(example: Path, name: str) -> dict:
    """Returns what the example itself says of a resource."""
    return yaml_parse(example.read_text())["Resources"][name]["Properties"]


def copy_for_the_emulator(example: Path, folder: str, dns_server: str) -> Path:
    text = example.read_text()
    applications = text.count("Type: AWS::Serverless::Application\n")
    assert applications, "the example has no function"
    for old, new in [
        ("Location: ../template.yaml\n", f"Location: {ROOT}/.aws-sam/build/template.yaml\n"),
        ("      Parameters:\n", f"      Parameters:\n        DnsServers: {dns_server}\n"),
    ]:
        assert text.count(old) == applications, old
        text = text.replace(old, new)
    copy = Path(folder, example.name)
    copy.write_text(text)
    return copy


def create_network() -> tuple[str, list[str]]:
    """Creates a VPC, and subnets in two of its zones."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=VPC_CIDR)["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
        for index, zone in enumerate("ab", start=1)
    ]
    return vpc, [subnet["SubnetId"] for subnet in subnets]


def permissions(group: str, direction: str) -> list[tuple]:
    """Returns the protocol, the ports if there are any, the ranges and the security groups of each rule."""
    described = boto3.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    return [
        (
            rule["IpProtocol"],
            rule.get("FromPort"),
            rule.get("ToPort"),
            [ip["CidrIp"] for ip in rule["IpRanges"]],
            [pair["GroupId"] for pair in rule["UserIdGroupPairs"]],
        )
        for rule in described[direction]
    ]


def expect_listeners(example: ExampleStack, groups: dict[int, str]) -> None:
    """Expects that the load balancer has these listeners and no others. They lead to these target groups, by their
    port."""
    elb = boto3.client("elbv2")
    balancer = elb.describe_load_balancers(LoadBalancerArns=[example.id("LoadBalancer")])["LoadBalancers"][0]
    assert (balancer["Type"], balancer["Scheme"]) == ("network", "internal"), balancer
    assert balancer["SecurityGroups"] == [example.id("LoadBalancerSecurityGroup")], balancer
    assert balancer["DNSName"] == example.output("LoadBalancerDnsName"), balancer
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    found = [
        (listener["Protocol"], listener["Port"], listener["DefaultActions"][0]["TargetGroupArn"])
        for listener in listeners
    ]
    assert sorted(found) == [("TCP", port, example.id(group)) for port, group in sorted(groups.items())], listeners


def expect_target_group(arn: str, port: int) -> None:
    elb = boto3.client("elbv2")
    described = elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]
    expected = {
        "TargetType": "ip",
        "Protocol": "TCP",
        "Port": port,
        "HealthCheckProtocol": "TCP",
        "HealthCheckIntervalSeconds": 10,
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 2,
    }
    assert {key: described[key] for key in expected} == expected, described
    attributes = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    assert {attribute["Key"]: attribute["Value"] for attribute in attributes} == {
        "deregistration_delay.timeout_seconds": "120",
        "deregistration_delay.connection_termination.enabled": "true",
        "load_balancing.cross_zone.enabled": "true",
    }, attributes
