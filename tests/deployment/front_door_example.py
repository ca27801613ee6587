"""Deploys the example of the front door, examples/front-door.yaml, onto an AWS emulator.

It expects the artifact of `make front-door`, and `sam` in the path. The emulator's caches are only records, so no command
is sent here. `front_door.py` sends some as these users."""

import hashlib
import re
import sys
import tempfile
from pathlib import Path

import boto3
from emulator_process import ROOT, Zone, emulator, step
from example_stack import ExampleStack, create_network, permissions

EXAMPLE = ROOT / "examples" / "front-door.yaml"
PAGE = (ROOT / "docs" / "front-door.md").read_text()


def copy_with_built_template(folder: str) -> Path:
    text = EXAMPLE.read_text()
    location = "Location: ../front-door/template.yaml\n"
    assert text.count(location) == 1
    copy = Path(folder, EXAMPLE.name)
    copy.write_text(text.replace(location, f"Location: {ROOT}/.aws-sam/front-door/template.yaml\n"))
    return copy


def the_users_have_the_access_of_the_page() -> None:
    elasticache = boto3.client("elasticache")
    access = dict(re.findall(r"^(reader|writer): (.+)$", PAGE, re.MULTILINE))
    users = {user["UserId"]: user["AccessString"] for user in elasticache.describe_users()["Users"]}
    expected = {f"front-door-{role}": rules for role, rules in access.items()}
    assert len(expected) == 2 and expected.items() <= users.items(), users
    (group,) = elasticache.describe_user_groups()["UserGroups"]
    assert sorted(group["UserIds"]) == sorted(expected), group


def the_function_logs_in_as_them(example: ExampleStack) -> None:
    cache = boto3.client("elasticache").describe_replication_groups(ReplicationGroupId="front-door")
    endpoint = cache["ReplicationGroups"][0]["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    inner = example.output("FrontDoorStack")
    name = example.id("Function", inner)
    variables = boto3.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    expected = {
        "ENDPOINT": endpoint,
        "AUTHENTICATION": "IAM",
        "CACHE_NAME": "front-door",
        "READER_USER": "front-door-reader",
        "WRITER_USER": "front-door-writer",
    }
    assert {name: variables[name] for name in expected} == expected, variables
    policies = boto3.client("iam").list_role_policies(RoleName=example.id("Role", inner))["PolicyNames"]
    assert sorted(policies) == ["attach", "connect", "log"], policies


def the_cache_admits_the_function_alone(example: ExampleStack) -> None:
    function = example.id("SecurityGroup", example.output("FrontDoorStack"))
    cache = example.id("CacheSecurityGroup")
    assert permissions(cache, "IpPermissions") == [("tcp", 6379, 6379, [], [function])]
    assert permissions(function, "IpPermissionsEgress") == [("tcp", 6379, 6379, [], [cache])]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, emulator(Zone()):
        vpc, subnets = create_network()
        example = ExampleStack("cache")
        digest = hashlib.sha256(b"a token").hexdigest()
        parameters = {"VpcId": vpc, "SubnetIds": ",".join(subnets), "WriteTokenSha256": digest}
        example.deploy(copy_with_built_template(folder), **parameters)
        step("the example was deployed")
        the_users_have_the_access_of_the_page()
        step("its users have the access of the page")
        the_function_logs_in_as_them(example)
        step("the function logs in as them, with IAM alone")
        the_cache_admits_the_function_alone(example)
        step("the cache admits the function and nobody else")
        example.delete()
        assert boto3.client("lambda").list_functions()["Functions"] == []
        step("the stack was deleted")


if __name__ == "__main__":
    sys.exit(main())
