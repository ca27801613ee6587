"""Does the same single job the way it is usually written, with boto3, dnspython and the official runtime client.

`make bench` measures it beside the function of this project. It follows one name, and has nothing that keeps a
target group from harm."""

import os

import boto3
import dns.resolver

ENDPOINT = os.environ["ENDPOINTS"]
TARGET_GROUP_ARN = os.environ["TARGET_GROUP_ARNS"]
NAMESPACE = "NlbHostnameTarget"

load_balancing = boto3.client("elbv2")
cloudwatch = boto3.client("cloudwatch")
resolver = dns.resolver.Resolver(configure="DNS_SERVERS" not in os.environ)
if "DNS_SERVERS" in os.environ:
    address, _, port = os.environ["DNS_SERVERS"].rpartition(":")
    resolver.nameservers, resolver.port = [address], int(port)


def handler(event, context):
    desired = {record.address for record in resolver.resolve(ENDPOINT, "A")}
    described = load_balancing.describe_target_health(TargetGroupArn=TARGET_GROUP_ARN)
    current = {
        target["Target"]["Id"]: target["Target"]
        for target in described["TargetHealthDescriptions"]
        if target["TargetHealth"]["State"] != "draining"
    }
    registered, deregistered = desired - current.keys(), current.keys() - desired
    if registered:
        load_balancing.register_targets(
            TargetGroupArn=TARGET_GROUP_ARN, Targets=[{"Id": address} for address in sorted(registered)]
        )
    if deregistered:
        load_balancing.deregister_targets(
            TargetGroupArn=TARGET_GROUP_ARN, Targets=[current[address] for address in sorted(deregistered)]
        )
    is_failover = bool(registered and deregistered)
    cloudwatch.put_metric_data(
        Namespace=NAMESPACE, MetricData=[{"MetricName": "Failover", "Value": int(is_failover), "Unit": "Count"}]
    )
    return {"registered": sorted(registered), "deregistered": sorted(deregistered), "failover": is_failover}
