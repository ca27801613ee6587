"""Starts AWS emulators that others have built. They know nothing of the function, and nothing here teaches them."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from emulator_process import REGION, free_port, is_up, ministack, running, use

NAMESPACE = "NlbHostnameTarget"
PORT = 6379
INSTALLED = Path(sys.executable).parent


@dataclass(frozen=True)
class World:
    name: str
    url: str
    # PublishFailed has this text if the emulator does not take the metrics.
    refusal: str | None = None


@dataclass(frozen=True)
class TargetGroup:
    arn: str

    @property
    def dimension(self) -> str:
        return self.arn.split(":")[-1]

    def register(self, address: str) -> None:
        boto3.client("elbv2").register_targets(TargetGroupArn=self.arn, Targets=[{"Id": address}])

    def targets(self) -> list[str]:
        described = boto3.client("elbv2").describe_target_health(TargetGroupArn=self.arn)
        targets = [health["Target"] for health in described["TargetHealthDescriptions"]]
        return sorted(f"{target['Id']}:{target['Port']}" for target in targets)


def create_target_group(name: str) -> TargetGroup:
    """Creates a target group that a listener of a Network Load Balancer forwards to."""
    ec2, elb = boto3.client("ec2"), boto3.client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/18", AvailabilityZone=f"{REGION}a")["Subnet"]
    created = elb.create_target_group(Name=name, Protocol="TCP", Port=PORT, VpcId=vpc, TargetType="ip")
    arn = created["TargetGroups"][0]["TargetGroupArn"]
    subnets = [subnet["SubnetId"]]
    created = elb.create_load_balancer(Name=name, Type="network", Scheme="internal", Subnets=subnets)
    elb.create_listener(
        LoadBalancerArn=created["LoadBalancers"][0]["LoadBalancerArn"],
        Protocol="TCP",
        Port=PORT,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    return TargetGroup(arn)


def metrics(dimension: str, value: str) -> dict[str, tuple[float, float]]:
    """Returns the sum of each metric of this dimension, and its number of samples."""
    cloudwatch, now = boto3.client("cloudwatch"), time.time()
    found = {}
    dimensions = [{"Name": dimension, "Value": value}]
    for metric in cloudwatch.list_metrics(Namespace=NAMESPACE, Dimensions=dimensions)["Metrics"]:
        points = cloudwatch.get_metric_statistics(
            **metric, StartTime=now - 3600, EndTime=now + 60, Period=60, Statistics=["Sum", "SampleCount"]
        )["Datapoints"]
        found[metric["MetricName"]] = tuple(sum(point[of] for point in points) for of in ("Sum", "SampleCount"))
    return found


@contextmanager
def ministack_world() -> Iterator[World]:
    with ministack([INSTALLED / "ministack"]) as url:
        use(url)
        yield World("ministack", url)


@contextmanager
def moto_world() -> Iterator[World]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [INSTALLED / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder}
        with running(command, environment, Path(folder, "log"), lambda: is_up(f"{url}/moto-api/")):
            use(url)
            yield World("moto", url, refusal="HTTP 404")
