"""Deploys the complete example, examples/elasticache-nlb.yaml, onto an AWS emulator that runs both of its functions.

Expects the artifact of `sam build`, and `sam` in the path. The functions ask a DNS server of the test, which the
example has no setting for: that and the place of the built template is all that a copy of it has changed. What the
emulator lacks: it forgets the topic of a replication group, and its caches and load balancers are only records;
`emulator.py` teaches it the rest.
"""

import json
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import boto3
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver
from emulator_process import REGION, ROOT, dns_server, emulator, step, use, wait_for
from samtranslator.yaml_helper import yaml_parse

EXAMPLE = ROOT / "examples" / "elasticache-nlb.yaml"
VPC_CIDR = "10.0.0.0/16"
CLIENT_CIDR = "192.168.0.0/16"


class Zone(BaseResolver):
    """The endpoints of every cache: one address of the primary, and one replica's at a time."""

    def __init__(self) -> None:
        self.primary = "10.0.1.7"
        self.replicas = ["10.0.2.9", "10.0.3.3"]
        self.turn = count()

    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        reply = request.reply()
        role = str(request.q.qname).split(".")[0]
        if role not in ("master", "replica"):
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            address = self.primary if role == "master" else self.replicas[next(self.turn) % len(self.replicas)]
            reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=1, rdata=A(address)))
        return reply


class Example:
    """A stack of the example."""

    def __init__(self, name: str, template: Path, network: dict[str, str]) -> None:
        self.name = name
        parameters = {**network, "VpcCidr": VPC_CIDR, "ClientCidr": CLIENT_CIDR, "Nodes": "3"}
        self.sam(
            "deploy",
            *("--template-file", str(template), "--resolve-s3", "--no-progressbar", "--no-confirm-changeset"),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
            *("--parameter-overrides", *(f'{name}="{value}"' for name, value in parameters.items())),
        )
        stack = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def sam(self, command: str, *arguments: str) -> None:
        command = ["sam", command, *arguments, "--stack-name", self.name, "--region", REGION]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]

    def delete(self) -> None:
        """Without the SAM CLI, which takes the address of a nested template at the emulator for none of S3."""
        cloudformation = boto3.client("cloudformation")
        cloudformation.delete_stack(StackName=self.name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})

    def id(self, resource: str, stack: str | None = None) -> str:
        described = boto3.client("cloudformation").describe_stack_resource(
            StackName=stack or self.name, LogicalResourceId=resource
        )
        return described["StackResourceDetail"]["PhysicalResourceId"]

    def function(self, application: str) -> dict:
        """The function of a nested application."""
        name = self.id("Function", stack=self.id(application))
        return boto3.client("lambda").get_function_configuration(FunctionName=name)

    def findings(self, application: str) -> list[str]:
        name = self.function(application)["FunctionName"]
        answer = boto3.client("lambda").invoke(FunctionName=name, Payload=b'{"diagnose": true}')
        return [finding["id"] for finding in json.loads(answer["Payload"].read())["findings"]]

    def targets(self, group: str) -> list[str]:
        described = boto3.client("elbv2").describe_target_health(TargetGroupArn=self.id(group))
        return sorted(health["Target"]["Id"] for health in described["TargetHealthDescriptions"])


def resource(name: str) -> dict:
    """What the example itself says of it."""
    return yaml_parse(EXAMPLE.read_text())["Resources"][name]["Properties"]


def permissions(group: str, direction: str) -> list[tuple]:
    """Protocol, ports, ranges and security groups of each rule."""
    described = boto3.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    return [
        (
            rule["IpProtocol"],
            rule["FromPort"],
            rule["ToPort"],
            [ip["CidrIp"] for ip in rule["IpRanges"]],
            [pair["GroupId"] for pair in rule["UserIdGroupPairs"]],
        )
        for rule in described[direction]
    ]


def the_listeners_lead_to_the_target_groups(example: Example) -> None:
    elb = boto3.client("elbv2")
    balancer = elb.describe_load_balancers(LoadBalancerArns=[example.id("LoadBalancer")])["LoadBalancers"][0]
    assert (balancer["Type"], balancer["Scheme"]) == ("network", "internal"), balancer
    assert balancer["SecurityGroups"] == [example.id("LoadBalancerSecurityGroup")], balancer
    assert balancer["DNSName"] == example.outputs["LoadBalancerDnsName"], balancer
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert {
        (listener["Protocol"], listener["Port"], listener["DefaultActions"][0]["TargetGroupArn"])
        for listener in listeners
    } == {("TCP", 6379, example.id("PrimaryTargetGroup")), ("TCP", 6380, example.id("ReaderTargetGroup"))}, listeners
    for group in ("PrimaryTargetGroup", "ReaderTargetGroup"):
        arn = example.id(group)
        described = elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]
        found = [described[key] for key in ("TargetType", "Protocol", "Port", "HealthCheckProtocol")]
        assert found == ["ip", "TCP", 6379, "TCP"], described
        attributes = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
        assert {attribute["Key"]: attribute["Value"] for attribute in attributes} == {
            "deregistration_delay.timeout_seconds": "120",
            "deregistration_delay.connection_termination.enabled": "true",
            "load_balancing.cross_zone.enabled": "true",
        }, attributes


def nobody_but_the_load_balancer_reaches_the_cache(example: Example) -> None:
    balancer, cache = example.id("LoadBalancerSecurityGroup"), example.id("CacheSecurityGroup")
    assert permissions(cache, "IpPermissions") == [("tcp", 6379, 6379, [], [balancer])]
    assert permissions(balancer, "IpPermissionsEgress") == [("tcp", 6379, 6379, [VPC_CIDR], [])]
    assert permissions(balancer, "IpPermissions") == [
        ("tcp", port, port, [CLIENT_CIDR], []) for port in (6379, 6380)
    ]


def the_cache_is_encrypted_redundant_and_asks_for_the_token(example: Example) -> None:
    described = boto3.client("elasticache").describe_replication_groups(ReplicationGroupId=example.id("Cache"))
    cache = described["ReplicationGroups"][0]
    assert {name: cache[name] for name in ("AutomaticFailover", "MultiAZ")} == {
        "AutomaticFailover": "enabled",
        "MultiAZ": "enabled",
    }, cache
    assert cache["TransitEncryptionEnabled"] and cache["AtRestEncryptionEnabled"] and cache["AuthTokenEnabled"], cache
    assert len(cache["MemberClusters"]) == 3, cache
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=example.outputs["AuthTokenArn"])["SecretString"]
    assert len(secret) == 64, "within the 16 to 128 characters of a token"
    # The emulator generates punctuation all the same.
    generated = resource("AuthToken")["GenerateSecretString"]
    assert generated["ExcludePunctuation"], generated
    node = boto3.client("elasticache").describe_cache_clusters(CacheClusterId=cache["MemberClusters"][0])
    groups = node["CacheClusters"][0]["SecurityGroups"]
    assert [group["SecurityGroupId"] for group in groups] == [example.id("CacheSecurityGroup")], groups


def each_function_follows_its_endpoint(example: Example) -> None:
    for application, endpoint, group, lookups, misses in [
        ("FollowPrimary", "PrimaryEndpoint", "PrimaryTargetGroup", "1", "0"),
        ("FollowReader", "ReaderEndpoint", "ReaderTargetGroup", "8", "24"),
    ]:
        variables = example.function(application)["Environment"]["Variables"]
        expected = {
            "ENDPOINTS": example.outputs[endpoint],
            "TARGET_GROUP_ARNS": example.id(group),
            "LOOKUPS_PER_RECONCILE": lookups,
            "MISSES_BEFORE_DEREGISTRATION": misses,
            "ALLOWED_CIDRS": VPC_CIDR,
            "KEEP_CIDRS": "",
        }
        assert {name: variables[name] for name in expected} == expected, variables
    assert example.outputs["PrimaryEndpoint"] != example.outputs["ReaderEndpoint"]


def the_topic_is_the_caches_and_runs_the_first_function_only(example: Example) -> None:
    topic = example.id("Notifications")
    subscriptions = boto3.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    [subscription] = subscriptions
    sources = boto3.client("lambda").list_event_source_mappings(EventSourceArn=subscription["Endpoint"])
    [source] = sources["EventSourceMappings"]
    assert source["FunctionArn"] == example.function("FollowPrimary")["FunctionArn"], source
    attributes = boto3.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    assert "KmsMasterKeyId" not in attributes, "ElastiCache publishes to no encrypted topic"
    [statement] = json.loads(attributes["Policy"])["Statement"]
    assert statement["Condition"] == {"StringEquals": {"AWS:SourceOwner": topic.split(":")[4]}}, statement
    # The emulator forgets the topic of a replication group.
    assert resource("Cache")["NotificationTopicArn"] == {"Ref": "Notifications"}


def copy_for_the_emulator(folder: str, dns_server: str) -> Path:
    text = EXAMPLE.read_text()
    for old, new in [
        ("Location: ../template.yaml", f"Location: {ROOT}/.aws-sam/build/template.yaml"),
        ("      Parameters:\n", f"      Parameters:\n        DnsServers: {dns_server}\n"),
    ]:
        assert text.count(old) == 2, old
        text = text.replace(old, new)
    copy = Path(folder, EXAMPLE.name)
    copy.write_text(text)
    return copy


def create_network() -> dict[str, str]:
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=VPC_CIDR)["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
        for index, zone in enumerate("ab", start=1)
    ]
    ids = ",".join(subnet["SubnetId"] for subnet in subnets)
    return {"VpcId": vpc, "SubnetIds": ids, "LoadBalancerSubnetIds": ids}


def run(zone: Zone, template: Path) -> None:
    network = create_network()
    example = Example("example", template, network)
    step("the example is deployed: cache, load balancer and both functions")

    for check in (
        the_listeners_lead_to_the_target_groups,
        nobody_but_the_load_balancer_reaches_the_cache,
        the_cache_is_encrypted_redundant_and_asks_for_the_token,
        each_function_follows_its_endpoint,
        the_topic_is_the_caches_and_runs_the_first_function_only,
    ):
        check(example)
        step(check.__name__.replace("_", " "))

    assert example.targets("PrimaryTargetGroup") == ["10.0.1.7"]
    assert example.targets("ReaderTargetGroup") == ["10.0.2.9", "10.0.3.3"]
    step("when sam deploy returned, each group held what its endpoint answers with")

    for application in ("FollowPrimary", "FollowReader"):
        found = example.findings(application)
        assert found == [], found
    step("diagnosed, both are sound")

    elb = boto3.client("elbv2")
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "30"}
    elb.modify_target_group_attributes(TargetGroupArn=example.id("PrimaryTargetGroup"), Attributes=[delay])
    elb.register_targets(TargetGroupArn=example.id("PrimaryTargetGroup"), Targets=[{"Id": "10.0.9.9", "Port": 6379}])
    broken = example.findings("FollowPrimary")
    assert broken == ["deregistration-delay-unfit", "target-foreign"], broken
    step("diagnosed, a short delay and a target of somebody else's are found")

    zone.primary, zone.replicas = "10.0.2.9", ["10.0.1.7", "10.0.3.3"]
    message = json.dumps({"ElastiCache:FailoverComplete": example.id("Cache")})
    boto3.client("sns").publish(TopicArn=example.id("Notifications"), Message=message)
    took = wait_for(lambda: example.targets("PrimaryTargetGroup") == ["10.0.2.9"], "the failover", 20)
    step(f"a notification of the failover was followed within {took:.0f} s")

    second = Example("second", template, network)
    assert second.targets("PrimaryTargetGroup") == ["10.0.2.9"]
    step("a second example stands beside the first")

    for stack in (example, second):
        stack.delete()
    left = boto3.client("elbv2").describe_target_groups()["TargetGroups"]
    assert left == [], left
    step("both were deleted")


def main() -> None:
    zone = Zone()
    with emulator() as url, dns_server(zone) as address, tempfile.TemporaryDirectory() as folder:
        use(url)
        step("an emulator is up, and enforces IAM")
        run(zone, copy_for_the_emulator(folder, address))


if __name__ == "__main__":
    main()
