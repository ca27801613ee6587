"""Deploys the complete example, examples/elasticache-nlb.yaml, onto an AWS emulator that runs both of its functions.

It expects the artifact of `sam build`, and `sam` in the path. The emulator's caches, load balancers and alarms are only
records. `emulator.py` teaches it the rest of what it lacks.
"""

import json
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
    resource,
    subscriptions,
)

EXAMPLE = ROOT / "examples" / "elasticache-nlb.yaml"
EMAIL = "operator@example.com"


def the_listeners_lead_to_the_target_groups(example: ExampleStack) -> None:
    expect_listeners(example, {6379: "PrimaryTargetGroup", 6380: "ReaderTargetGroup"})
    for group in ("PrimaryTargetGroup", "ReaderTargetGroup"):
        expect_target_group(example.id(group), 6379)


def nobody_but_the_load_balancer_reaches_the_cache(example: ExampleStack) -> None:
    balancer, cache = example.id("LoadBalancerSecurityGroup"), example.id("CacheSecurityGroup")
    assert permissions(cache, "IpPermissions") == [("tcp", 6379, 6379, [], [balancer])]
    assert permissions(balancer, "IpPermissionsEgress") == [("tcp", 6379, 6379, [VPC_CIDR], [])]
    assert permissions(balancer, "IpPermissions") == [
        ("tcp", port, port, [CLIENT_CIDR], []) for port in (6379, 6380)
    ]


def cache_of(example: ExampleStack) -> dict:
    described = boto3.client("elasticache").describe_replication_groups(ReplicationGroupId=example.id("Cache"))
    return described["ReplicationGroups"][0]


def node_of(cache: dict) -> dict:
    described = boto3.client("elasticache").describe_cache_clusters(CacheClusterId=cache["MemberClusters"][0])
    return described["CacheClusters"][0]


def the_cache_is_encrypted_redundant_and_asks_for_the_token(example: ExampleStack) -> None:
    cache = cache_of(example)
    assert {name: cache[name] for name in ("AutomaticFailover", "MultiAZ")} == {
        "AutomaticFailover": "enabled",
        "MultiAZ": "enabled",
    }, cache
    assert cache["TransitEncryptionEnabled"] and cache["AtRestEncryptionEnabled"] and cache["AuthTokenEnabled"], cache
    assert len(cache["MemberClusters"]) == 3, cache
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=example.output("AuthTokenArn"))["SecretString"]
    assert len(secret) == 64, "within the 16 to 128 characters of a token"
    # The emulator generates punctuation nonetheless, so this reads the example itself.
    generated = resource(EXAMPLE, "AuthToken")["GenerateSecretString"]
    assert generated["ExcludePunctuation"], generated
    groups = node_of(cache)["SecurityGroups"]
    assert [group["SecurityGroupId"] for group in groups] == [example.id("CacheSecurityGroup")], groups


def the_cache_has_snapshots_and_logs(example: ExampleStack) -> None:
    cache, log = cache_of(example), example.output("CacheLogName")
    assert (cache["SnapshotRetentionLimit"], cache["SnapshotWindow"]) == (7, "03:00-04:00"), cache
    maintained = node_of(cache)["PreferredMaintenanceWindow"]
    assert maintained == "sun:05:00-sun:06:00", "it must not overlap with the window of the snapshots"
    assert sorted(
        (
            delivery["LogType"],
            delivery["LogFormat"],
            delivery["DestinationType"],
            delivery["DestinationDetails"]["CloudWatchLogsDetails"]["LogGroup"],
        )
        for delivery in cache["LogDeliveryConfigurations"]
    ) == [(kind, "json", "cloudwatch-logs", log) for kind in ("engine-log", "slow-log")], cache
    functions = [example.function(name)["LoggingConfig"]["LogGroup"] for name in ("FollowPrimary", "FollowReader")]
    for name in (log, *functions):
        [group] = boto3.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        assert (group["logGroupName"], group["retentionInDays"]) == (name, 14), group


def each_function_follows_its_endpoint(example: ExampleStack) -> None:
    for application, endpoint, group, lookups, misses in [
        ("FollowPrimary", "PrimaryEndpoint", "PrimaryTargetGroup", "1", "0"),
        ("FollowReader", "ReaderEndpoint", "ReaderTargetGroup", "8", "24"),
    ]:
        expect_variables(
            example.function(application),
            ENDPOINTS=example.output(endpoint),
            TARGET_GROUP_ARNS=example.id(group),
            LOOKUPS_PER_RECONCILE=lookups,
            MISSES_BEFORE_DEREGISTRATION=misses,
            ALLOWED_CIDRS=VPC_CIDR,
            KEEP_CIDRS="",
        )
    assert example.output("PrimaryEndpoint") != example.output("ReaderEndpoint")


def the_topic_is_the_caches_and_runs_the_first_function_only(example: ExampleStack) -> None:
    topic = example.id("Notifications")
    assert node_of(cache_of(example))["NotificationConfiguration"]["TopicArn"] == topic
    expect_notified(example.function("FollowPrimary"), topic)
    attributes = boto3.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    assert "KmsMasterKeyId" not in attributes, "ElastiCache publishes to no encrypted topic"
    account = topic.split(":")[4]
    found = [
        [statement[key] for key in ("Effect", "Principal", "Action", "Resource", "Condition")]
        for statement in json.loads(attributes["Policy"])["Statement"]
    ]
    assert found == [
        ["Allow", {"AWS": "*"}, "sns:Publish", topic, {"StringEquals": {"AWS:SourceOwner": account}}],
    ], "ElastiCache supports AWS:SourceOwner and no other key"


def alarms_of(example: ExampleStack) -> list[dict]:
    """Returns the alarms of the cache and those of each function."""
    types = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    stacks = [example.name, *(example.id(name) for name in ("FollowPrimary", "FollowReader"))]
    names = [name for stack in stacks for name in example.ids_of(types, stack)]
    found = boto3.client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    return [alarm for kind in ("MetricAlarms", "CompositeAlarms") for alarm in found[kind] if alarm["AlarmName"] in names]


def expect_alarms(example: ExampleStack, nodes: int) -> None:
    """Expects alarms for the ids that ElastiCache gives the nodes if cluster mode is disabled. The emulator gives
    them other ids."""
    ids = [f"{example.id('Cache')}-{number:03}" for number in range(1, nodes + 1)]
    watched = {}
    for alarm in alarms_of(example):
        if "Metrics" in alarm and "AWS/ElastiCache" in json.dumps(alarm["Metrics"]):
            [most, *metrics] = alarm["Metrics"]
            assert (most["Expression"], most["ReturnData"]) == ("MAX(METRICS())", True), most
            assert not any(metric["ReturnData"] for metric in metrics), metrics
            assert len({metric["Id"] for metric in metrics}) == len(metrics), metrics
            [name] = {metric["MetricStat"]["Metric"]["MetricName"] for metric in metrics}
            [statistic] = {(metric["MetricStat"]["Stat"], metric["MetricStat"]["Period"]) for metric in metrics}
            dimensions = [metric["MetricStat"]["Metric"]["Dimensions"] for metric in metrics]
            assert dimensions == [[{"Name": "CacheClusterId", "Value": node}] for node in ids], dimensions
            assert alarm["ComparisonOperator"] == "GreaterThanThreshold", alarm
            watched[name] = (*statistic, alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"])
    assert watched == {
        "EngineCPUUtilization": ("Average", 60, 80, 5, 5),
        "DatabaseMemoryUsagePercentage": ("Maximum", 60, 80, 5, 5),
        "Evictions": ("Sum", 60, 0, 3, 5),
        "ReplicationLag": ("Maximum", 60, 10, 5, 5),
    }, watched


def one_address_gets_all_alarms(example: ExampleStack, topic: str) -> None:
    assert [(one["Protocol"], one["Endpoint"]) for one in subscriptions(topic)] == [("email", EMAIL)], subscriptions(topic)
    topics = {action for alarm in alarms_of(example) for action in (*alarm["AlarmActions"], *alarm["OKActions"])}
    assert topics == {topic}, topics
    for name in ("FollowPrimary", "FollowReader"):
        nested = example.ids_of(("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"), example.id(name))
        told = [alarm["AlarmName"] for alarm in alarms_of(example) if alarm["AlarmActions"]]
        assert set(nested) & set(told), f"{name} alarms nobody"
        assert example.ids_of(("AWS::SNS::Topic",), example.id(name)) == [], f"{name} has a topic of its own"


def schedules(example: ExampleStack) -> list[tuple[str, str]]:
    return [example.schedule(name) for name in ("FollowPrimary", "FollowReader")]


def watches_whether_it_runs(example: ExampleStack) -> bool:
    return any("FunctionNotRunning" in alarm["AlarmName"] for alarm in alarms_of(example))


def run(zone: Zone, template: Path) -> None:
    vpc, subnets = create_network()
    network = {
        "VpcId": vpc,
        "VpcCidr": VPC_CIDR,
        "SubnetIds": ",".join(subnets),
        "LoadBalancerSubnetIds": ",".join(subnets),
        "ClientCidr": CLIENT_CIDR,
    }
    example = ExampleStack("example")
    five = {"ScheduleExpression": "rate(5 minutes)", "AlarmMinutes": "17"}
    example.deploy(
        template, **network, **five, RuleNamePrefix="redis", Nodes="3", AlarmEmail=EMAIL, LogRetentionInDays="14"
    )
    step("the example is deployed: cache, load balancer, both functions and the alarms")

    for check in (
        the_listeners_lead_to_the_target_groups,
        nobody_but_the_load_balancer_reaches_the_cache,
        the_cache_is_encrypted_redundant_and_asks_for_the_token,
        the_cache_has_snapshots_and_logs,
        each_function_follows_its_endpoint,
        the_topic_is_the_caches_and_runs_the_first_function_only,
    ):
        check(example)
        step(check.__name__.replace("_", " "))
    one_address_gets_all_alarms(example, example.id("AlarmTopic"))
    assert watches_whether_it_runs(example)
    step("one address gets all alarms")
    assert schedules(example) == [("redis-primary", "rate(5 minutes)"), ("redis-reader", "rate(5 minutes)")]
    step("each rule has a name with the prefix, and the schedule")
    expect_alarms(example, nodes=3)
    step("the alarms of the cache watch each of its three nodes")

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

    fail_over(example, zone, "PrimaryTargetGroup", example.id("Notifications"), example.id("Cache"))

    second = ExampleStack("second")
    second.deploy(template, **network, SnapshotRetentionInDays="0")
    assert second.targets("PrimaryTargetGroup") == ["10.0.2.9"]
    cache = cache_of(second)
    assert (cache["SnapshotRetentionLimit"], cache["SnapshotWindow"]) == (0, "05:00-06:00"), "the emulator's window"
    assert alarms_of(second) == [], alarms_of(second)
    assert len({name for name, _ in (*schedules(example), *schedules(second))}) == 4
    assert [schedule for _, schedule in schedules(second)] == ["rate(1 minute)"] * 2, schedules(second)
    step("a second example stands beside the first, without snapshots, alarms and names of rules")

    topic, cron = boto3.client("sns").create_topic(Name="alarms")["TopicArn"], "cron(0/2 8-18 ? * MON-FRI *)"
    alarms = {"AlarmTopicArn": topic, "AlarmEmail": EMAIL, "AlarmMinutes": "8", "SchedulePauses": "true"}
    second.deploy(template, Nodes="6", ScheduleExpression=cron, **alarms)
    expect_alarms(second, nodes=6)
    one_address_gets_all_alarms(second, topic)
    assert second.ids_of(("AWS::SNS::Topic",)) == [second.id("Notifications")], "it has a topic of its own"
    assert not watches_whether_it_runs(second)
    assert [schedule for _, schedule in schedules(second)] == [cron] * 2, schedules(second)
    step("the alarms of the second were added on a topic that exists, and watch all of six nodes; its schedule pauses")

    for stack in (example, second):
        stack.delete()
    left = boto3.client("elbv2").describe_target_groups()["TargetGroups"]
    assert left == [], left
    step("both were deleted")


def main() -> None:
    zone = Zone()
    with emulator(zone) as address, tempfile.TemporaryDirectory() as folder:
        run(zone, copy_for_the_emulator(EXAMPLE, folder, address))


if __name__ == "__main__":
    main()
