"""Which notifications of a cluster cause a run, by the template's own filter on a topic of an emulator.

The messages are as ElastiCache sends them: an object whose key is the event's name.
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ElastiCacheSNS.html
"""

import json
import os
from pathlib import Path

import boto3
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parent.parent / "template.yaml"
PASSES = [
    {"ElastiCache:FailoverComplete": "redis-001"},
    {"ElastiCache:CacheNodeReplaceComplete": "redis-001", "Cache Cluster ID": "redis-001"},
    {"ElastiCache:NodeReplacementScheduled ": "redis-001", "Start Time ": "Sat Nov 21 05:01:00 UTC 2026"},
    {"Date": "2026-11-21T05:01:00.000Z", "Message": "Failover to replica node redis-002 completed"},
]
IS_DROPPED = [
    {"ElastiCache:SnapshotComplete": "redis-001"},
    {"ElastiCache:SnapshotFailed": "redis-001", "Cache Cluster ID": "redis-001"},
]


@mock_aws
def main() -> None:
    sns, sqs = (boto3.client(service, region_name="eu-west-1") for service in ("sns", "sqs"))
    subscription = yaml_parse(TEMPLATE.read_text())["Resources"]["FailoverSubscription"]["Properties"]
    queue = sqs.create_queue(QueueName="function")["QueueUrl"]
    topic = sns.create_topic(Name="redis-events")["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"],
        Attributes={
            "FilterPolicyScope": subscription["FilterPolicyScope"],
            "FilterPolicy": json.dumps(subscription["FilterPolicy"]),
        },
    )
    for message in PASSES + IS_DROPPED:
        sns.publish(TopicArn=topic, Message=json.dumps(message))
    received = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            received.append(json.loads(json.loads(message["Body"])["Message"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert received == PASSES, f"{received} caused a run, not {PASSES}"
    print(f"{len(PASSES)} notifications cause a run, {len(IS_DROPPED)} do not")


os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
main()
