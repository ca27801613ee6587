"""Checks examples/terraform, and the HCL in the documentation, against the template that they deploy.

No provider runs here, so this reads what Terraform would: the declarations, the references between them, and what the
function, Elastic Load Balancing and ElastiCache need of their values.
"""

import re
from itertools import chain
from pathlib import Path

import hcl2
from hcl2 import SerializationOptions
from samcli.yamlhelper import yaml_dump, yaml_parse

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/terraform"
PAGES = [ROOT / "docs/terraform.md", ROOT / "README.md"]
TEMPLATE_BODY_LIMIT = 51_200
# The bytes that sam package adds to the template, for the place of the code in the bucket.
PACKAGING = 2_000

ACCOUNT = "${data.aws_caller_identity.current.account_id}"
CACHE_PORT = "${aws_elasticache_replication_group.redis.port}"
CACHE_GROUP, LOAD_BALANCER_GROUP = (f"${{aws_security_group.{name}.id}}" for name in ("cache", "load_balancer"))


class Configuration:
    """The blocks of some HCL by the address that a reference has: var.name, data.aws_subnet.cache, aws_lb.redis."""

    def __init__(self, text: str) -> None:
        parsed = hcl2.loads(
            text,
            serialization_options=SerializationOptions(
                strip_string_quotes=True, with_comments=False, explicit_blocks=False
            ),
        )
        self.text = text
        self.settings = parsed.get("settings", {})
        self.providers = {}
        for block in chain.from_iterable(each.get("required_providers", []) for each in parsed.get("terraform", [])):
            self.providers |= block
        self.blocks = {}
        for kind, prefix in (("variable", "var."), ("output", "output."), ("provider", "provider.")):
            for block in parsed.get(kind, []):
                self.blocks |= {prefix + name: body for name, body in block.items()}
        for block in parsed.get("locals", []):
            self.blocks |= {f"local.{name}": value for name, value in block.items()}
        for kind, prefix in (("resource", ""), ("data", "data.")):
            for block in parsed.get(kind, []):
                for of_type, named in block.items():
                    self.blocks |= {f"{prefix}{of_type}.{name}": body for name, body in named.items()}

    def of_type(self, of_type: str) -> list[dict]:
        return [body for address, body in self.blocks.items() if address.startswith(f"{of_type}.")]

    def one(self, of_type: str) -> dict:
        (body,) = self.of_type(of_type)
        return body


def expressions(value) -> str:
    """Returns all text in a value that Terraform evaluates."""
    if isinstance(value, dict):
        return " ".join(map(expressions, chain(value.keys(), value.values())))
    if isinstance(value, list):
        return " ".join(map(expressions, value))
    return value if isinstance(value, str) and "${" in value else ""


def references(value) -> set[str]:
    return set(re.findall(r"\b(?<!\.)(?:var|local|(?:data\.)?(?:aws|random)_\w+)\.\w+", expressions(value)))


def every_reference_is_declared(example: Configuration) -> None:
    undeclared = references(example.blocks) - example.blocks.keys()
    assert not undeclared, f"nothing declares {undeclared}"


def every_declaration_of_a_value_is_used(example: Configuration) -> None:
    for address in example.blocks:
        if address.startswith(("var.", "local.", "data.")):
            others = {other: body for other, body in example.blocks.items() if other != address}
            assert address in references(others), f"nothing uses {address}"


def every_variable_and_output_is_described(example: Configuration) -> None:
    for variable in example.of_type("var"):
        assert variable.get("type") and variable.get("description", "").endswith("."), variable
        assert variable["type"] == "bool" or variable.get("validation"), f"nothing validates {variable}"
    for output in example.of_type("output"):
        assert output.get("description"), output


def every_resource_has_a_provider(example: Configuration) -> None:
    used = set(re.findall(r"\b(aws|random)_\w+\.", " ".join(example.blocks)))
    assert example.providers.keys() == used, f"{used} are used, not {example.providers.keys()}"
    for provider, needs in example.providers.items():
        assert needs["source"] == f"hashicorp/{provider}" and re.match(r"~> \d+\.\d+$", needs["version"]), needs


def the_group_keeps_no_client_on_the_demoted_node(example: Configuration) -> None:
    group = example.one("aws_lb_target_group")
    assert {name: group.get(name) for name in TARGET_GROUP} == TARGET_GROUP, group
    assert example.one("aws_lb_listener")["default_action"] == [
        {"type": "forward", "target_group_arn": "${aws_lb_target_group.redis.arn}"}
    ]
    assert example.one("aws_lb_listener")["protocol"] == "TCP"
    assert example.one("aws_lb")["load_balancer_type"] == "network"


def the_load_balancer_is_in_the_zones_of_the_cache(example: Configuration) -> None:
    zones = references(example.one("aws_lb").get("lifecycle", []))
    assert zones == {"data.aws_subnet.cache", "data.aws_subnet.load_balancer"}, zones


TARGET_GROUP = {
    "target_type": "ip",
    "protocol": "TCP",
    "port": CACHE_PORT,
    "vpc_id": "${var.vpc_id}",
    "deregistration_delay": 120,
    "connection_termination": True,
    "load_balancing_cross_zone_enabled": "true",
    "health_check": [{"protocol": "TCP", "interval": 10, "healthy_threshold": 2, "unhealthy_threshold": 2}],
}


def the_targets_belong_to_the_function(configuration: Configuration) -> None:
    attachments = [address for address in configuration.blocks if "target_group_attachment" in address]
    assert not attachments, f"{attachments} would fight with the function"


def the_cache_fails_over_and_is_encrypted(example: Configuration) -> None:
    cache = example.one("aws_elasticache_replication_group")
    expected = {
        "automatic_failover_enabled": True,
        "multi_az_enabled": True,
        "transit_encryption_enabled": True,
        "at_rest_encryption_enabled": True,
        "auth_token": "${random_password.auth_token.result}",
        "port": 6379,
        "security_group_ids": [CACHE_GROUP],
        "notification_topic_arn": "${aws_sns_topic.notifications.arn}",
        "maintenance_window": "${var.maintenance_window}",
        "snapshot_retention_limit": "${var.snapshot_retention_days}",
        "depends_on": ["${aws_sns_topic_policy.notifications}"],
    }
    assert {name: cache.get(name) for name in expected} == expected, cache
    token = example.one("random_password")
    assert 16 <= token["length"] <= 128 and token["special"] is False, token
    assert example.one("aws_secretsmanager_secret_version")["secret_string"] == cache["auth_token"]


def only_the_load_balancer_reaches_the_cache(example: Configuration) -> None:
    rules = [
        (rule["security_group_id"], rule.get("referenced_security_group_id"), rule["from_port"], rule["to_port"])
        for rule in example.of_type("aws_vpc_security_group_ingress_rule")
        if rule["security_group_id"] != LOAD_BALANCER_GROUP
    ]
    assert rules == [(CACHE_GROUP, LOAD_BALANCER_GROUP, CACHE_PORT, CACHE_PORT)], rules
    egress = example.one("aws_vpc_security_group_egress_rule")
    assert egress["security_group_id"] == LOAD_BALANCER_GROUP, egress
    assert egress["referenced_security_group_id"] == CACHE_GROUP, egress
    assert egress["from_port"] == egress["to_port"] == CACHE_PORT, egress
    assert example.one("aws_lb")["security_groups"] == [LOAD_BALANCER_GROUP]
    for group in example.of_type("aws_security_group"):
        assert not {"ingress", "egress"} & group.keys(), f"{group} has rules of its own beside the rule resources"
    assert not example.of_type("aws_security_group_rule")


def elasticache_may_publish_to_the_topic(example: Configuration) -> None:
    assert "kms_master_key_id" not in example.one("aws_sns_topic"), "ElastiCache cannot publish to an encrypted topic"
    assert example.one("aws_sns_topic_policy") == {
        "arn": "${aws_sns_topic.notifications.arn}",
        "policy": "${data.aws_iam_policy_document.notifications.json}",
    }
    statements = example.one("data.aws_iam_policy_document")["statement"]
    allowed = [{name: value for name, value in statement.items() if name != "sid"} for statement in statements]
    assert allowed == [
        {
            "actions": ["sns:Publish"],
            "resources": ["${aws_sns_topic.notifications.arn}"],
            "principals": [{"type": "AWS", "identifiers": ["*"]}],
            "condition": [{"test": "StringEquals", "variable": "AWS:SourceOwner", "values": [ACCOUNT]}],
        }
    ], allowed


def another_template_updates_the_stack(example: Configuration) -> None:
    template, stack = example.one("aws_s3_object"), example.one("aws_cloudformation_stack")
    assert template["source"] == "${var.packaged_template}", template
    assert "${filesha256(var.packaged_template)}" in template["key"], template
    assert stack["template_url"].endswith("/${aws_s3_object.template[0].key}"), stack


def the_group_is_followed_by_the_stack_or_by_its_tags(example: Configuration) -> None:
    """Expects the stack without a fleet, and the tags that the function reads with one."""
    assert example.blocks["var.fleet"]["default"] is None, example.blocks["var.fleet"]
    assert example.blocks["local.stacks"] == "${var.fleet == null ? 1 : 0}", example.blocks["local.stacks"]
    for of_type in ("aws_cloudformation_stack", "aws_s3_object", "data.aws_s3_bucket"):
        assert example.one(of_type)["count"] == "${local.stacks}", of_type
    tags = example.one("aws_lb_target_group")["tags"]
    required = re.findall(r'"(nlb-hostname-target/(?:fleet|endpoints))"', (ROOT / "src/config/tags.rs").read_text())
    values = ["var.fleet", "aws_elasticache_replication_group.redis.primary_endpoint_address"]
    assert len(required) == 2 and tags.endswith("if var.fleet != null}}"), (required, tags)
    for tag, value in zip(required, values):
        assert re.search(rf'"{tag}" *= *{re.escape(value)}[\s,}}]', tags), f"the group lacks {tag} = {value}: {tags}"


def every_output_of_the_stack_exists(example: Configuration, template: dict) -> None:
    named = set(re.findall(r'aws_cloudformation_stack\.\w+\[\*\]\.outputs\["(\w+)"\]', example.text))
    assert named and named <= template["Outputs"].keys(), f"the template has no output {named}"


def is_allowed(value: str, parameter: dict) -> bool:
    values = value.split(",") if parameter["Type"] == "CommaDelimitedList" else [value]
    matches = all(re.fullmatch(parameter.get("AllowedPattern", ".*"), each) for each in values)
    return matches and value in map(str, parameter.get("AllowedValues", [value]))


def given_by(configuration: Configuration, stack: dict) -> dict:
    """Returns the parameters that a stack has from the configuration itself, without the user's settings."""
    merged = re.fullmatch(r"\$\{merge\((local\.\w+), var\.settings\)\}", str(stack["parameters"]))
    return configuration.blocks[merged[1]] if merged else stack["parameters"]


def every_parameter_can_be_set(example: Configuration) -> None:
    """Expects one map with settings, which wins over what the example gives. CloudFormation refuses a name that the
    template lacks."""
    assert given_by(example, stack := example.one("aws_cloudformation_stack")) is not stack["parameters"], stack
    settings = example.blocks["var.settings"]
    assert (settings["type"], settings["default"]) == ("${map(string)}", {}), settings


def the_stack_gets_what_the_template_takes(given: dict, template: dict) -> None:
    known = template["Parameters"]
    required = {name for name, parameter in known.items() if "Default" not in parameter}
    assert required <= given.keys(), f"the template requires {required - given.keys()}"
    the_template_takes(given, template)
    sources = {
        "Endpoints": r"\$\{aws_elasticache_replication_group\.\w+\.primary_endpoint_address\}",
        "TargetGroupArns": r"\$\{aws_lb_target_group\.\w+\.arn\}",
        "FailoverTopicArn": r"\$\{aws_sns_topic\.\w+\.arn\}",
    }
    for name, source in sources.items():
        assert name not in given or re.fullmatch(source, given[name]), f"{name} is {given[name]}"


def the_template_takes(given: dict, template: dict) -> None:
    known = template["Parameters"]
    assert given.keys() <= known.keys(), f"the template has no parameter {given.keys() - known.keys()}"
    for name, value in given.items():
        if not expressions(value):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            assert is_allowed(text, known[name]), f"{name} cannot be {text}"


def the_stack_may_do_what_the_template_does(stack: dict, template: dict) -> None:
    roles = [body for body in template["Resources"].values() if body["Type"] == "AWS::IAM::Role"]
    needed = {"CAPABILITY_IAM"} if roles else set()
    needed |= {"CAPABILITY_NAMED_IAM"} if any("RoleName" in role["Properties"] for role in roles) else set()
    needed |= {"CAPABILITY_AUTO_EXPAND"} if "Transform" in template else set()
    assert needed <= set(stack["capabilities"]), f"the template needs {needed}, not {stack['capabilities']}"


def the_template_fits(stack: dict, size: int) -> None:
    assert "template_url" in stack or size <= TEMPLATE_BODY_LIMIT, f"{size} bytes need a template_url"
    assert ("template_url" in stack) != ("template_body" in stack), stack


def main() -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text())
    packaged_size = len(yaml_dump(template).encode()) + PACKAGING
    example = Configuration("\n".join(path.read_text() for path in sorted(EXAMPLE.glob("*.tf"))))
    for check in (
        every_reference_is_declared,
        every_declaration_of_a_value_is_used,
        every_variable_and_output_is_described,
        every_resource_has_a_provider,
        the_group_keeps_no_client_on_the_demoted_node,
        the_load_balancer_is_in_the_zones_of_the_cache,
        the_cache_fails_over_and_is_encrypted,
        only_the_load_balancer_reaches_the_cache,
        elasticache_may_publish_to_the_topic,
        another_template_updates_the_stack,
        the_group_is_followed_by_the_stack_or_by_its_tags,
        every_parameter_can_be_set,
    ):
        check(example)
    every_output_of_the_stack_exists(example, template)

    snippets = {
        page.name: [Configuration(text) for text in re.findall(r"```hcl\n(.*?)```", page.read_text(), re.DOTALL)]
        for page in PAGES
    }
    assert snippets["terraform.md"], "docs/terraform.md has no HCL"
    configurations = [example, *chain.from_iterable(snippets.values())]
    stacks = [(each, stack) for each in configurations for stack in each.of_type("aws_cloudformation_stack")]
    assert any(each.settings for each in configurations), "no page sets a parameter"
    for configuration in configurations:
        the_targets_belong_to_the_function(configuration)
        the_template_takes(configuration.settings, template)
    for configuration, stack in stacks:
        the_stack_gets_what_the_template_takes(given_by(configuration, stack), template)
        the_stack_may_do_what_the_template_does(stack, template)
        the_template_fits(stack, packaged_size)
    print(f"{len(example.blocks)} blocks and {len(stacks)} stacks say what the template expects")


main()
