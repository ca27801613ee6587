"""Deploys a stack that follows a fleet and no configured group onto the AWS emulator, by the commands of docs/fleet.md: a
group is tagged, followed, untagged and left alone. IAM decides by the tags of now."""

import sys

import boto3
from emulator_process import ENDPOINT, Zone, emulator, step, wait_for
from example_stack import create_target_group, targets
from quick_start import blocks, shell
from run import Deployment

DEPLOY, TAG = blocks("docs/fleet.md", "The first group")
PARAMETERS = "Fleet=production AllowedCidrs=10.0.0.0/16"


def tag(group: str) -> None:
    shell(f"GROUP={group} CACHE={ENDPOINT}\n{TAG}")


def untag(group: str, *keys: str) -> None:
    names = [f"nlb-hostname-target/{key}" for key in keys]
    boto3.client("elbv2").remove_tags(ResourceArns=[group], TagKeys=names)


def run(zone: Zone, dns_server: str) -> None:
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    redis, other = (create_target_group(name, vpc) for name in ("redis", "other"))
    stack = Deployment("follow-fleet", dns_server)
    assert DEPLOY.count(PARAMETERS) == 1, DEPLOY
    for parameters, reason in (
        ("Fleet=production", "With Fleet, set AllowedCidrs"),
        ("AllowedCidrs=10.0.0.0/16", "There is nothing to follow"),
        (f"{PARAMETERS} Endpoints={ENDPOINT}", "must both be given, or both be empty"),
    ):
        given = dict(parameter.split("=") for parameter in parameters.split())
        refused = stack.try_to_deploy(**given)
        assert refused.returncode != 0 and reason in refused.stdout + refused.stderr, (parameters, refused)
    step("the template refused a fleet without ranges, a stack that follows nothing, and a name without a group")

    shell(DEPLOY.rstrip() + f" DnsServers={dns_server}")
    assert stack.invoke()["targetGroups"] == []
    step("the page's command deployed it, and it follows nothing yet")

    tag(redis)
    took = wait_for(lambda: targets(redis) == ["10.0.1.7"], "the target of a tagged group", 100)
    step(f"the page's command tagged a group, and the schedule followed it within {took:.0f} s")

    zone.address = "10.0.2.9"
    [group] = stack.invoke()["targetGroups"]
    assert group["failover"] and targets(redis) == ["10.0.2.9"] and targets(other) == [], group
    found = stack.findings()
    assert found == ["load-balancer-missing", "health-check-slow"], found
    step("its name moved, and the group followed; a diagnosis examines it")

    # The function is told of a group that has no tag, whatever a list says.
    stack.set_variable("ENDPOINTS", ENDPOINT)
    stack.set_variable("TARGET_GROUP_ARNS", other)
    answer = stack.invoke()
    assert answer["errorType"] == "RegisterFailed" and "AccessDenied" in answer["errorMessage"], answer
    assert targets(other) == []
    tag(other)
    stack.invoke()
    assert targets(other) == ["10.0.2.9"]
    stack.set_variable("ENDPOINTS", "")
    stack.set_variable("TARGET_GROUP_ARNS", "")
    untag(other, "fleet")
    step("the role could not touch a group without the tag, and could with it")

    tag(other)
    untag(other, "endpoints")
    [group] = stack.invoke()["targetGroups"]
    assert group["targetGroupArn"] == redis, group
    [line, *_] = stack.log(f"cannot follow {other}")
    assert line["errorType"] == "TagInvalid" and "endpoints is not set" in line["message"], line
    untag(other, "fleet")
    step("a group without names is not followed, and a line says so")

    untag(redis, "fleet")
    zone.address = "10.0.1.7"
    assert stack.invoke()["targetGroups"] == []
    assert targets(redis) == ["10.0.2.9"]
    assert stack.log(f"{redis} is not in the fleet's list any more"), "nothing says that the group has left"
    step("the tag was taken away, and the group is left alone")

    with stack.without("tag:GetResources", policy="follow-the-fleet"):
        answer = stack.invoke()
        assert answer["errorType"] == "DiscoverFailed" and "AccessDenied" in answer["errorMessage"], answer
        assert stack.findings() == ["permission-missing"]
    step("without its permission the list fails, and a diagnosis says which one is missing")

    deleted = stack.sam("delete", "--no-prompts")
    assert deleted.returncode == 0, deleted.stderr
    assert boto3.client("lambda").list_functions()["Functions"] == []
    step("the stack was deleted")


def main() -> None:
    zone = Zone()
    with emulator(zone) as dns_server:
        run(zone, dns_server)


if __name__ == "__main__":
    sys.exit(main())
