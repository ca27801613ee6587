"""Starts the AWS emulator, and teaches it what it does not know of CloudWatch, of stacks and of ElastiCache.

By itself, the emulator authorizes calls of the protocol that the SDK speaks to CloudWatch (Smithy RPC v2 CBOR) without
asking IAM, and does not know the condition key `cloudwatch:namespace`. Its stacks make no composite alarm, no alarm on
metric math, no saved query, and no security group's rule apart from the group. Here they do, but an alarm on metric
math is only a record, and a saved query is not even that. A stack overwrites an EventBridge rule that has the same
name, which fails here. The emulator does not transform a nested stack's template, and an update of a nested stack
forgets the attributes of what has not changed. It lists a mail address as confirmed before anybody has confirmed it. It
gives both endpoints of a cache one name, and forgets the topic that a cache notifies. It writes the access string of a
cache's user into XML as it is. It neither lists target groups by their tags nor lets IAM ask for these.
"""

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

import cbor2
from ministack.core import iam_actions
from ministack.services import alb, cloudwatch, ec2, elasticache, eventbridge, sns, tagging
from ministack.services.cloudformation import _stacks, custom_resource, engine, provisioners

BUCKET = "https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com"
OPERATION = "/service/GraniteServiceVersion20100801/operation/"

extract_action = iam_actions.extract_iam_action
extract_resource = iam_actions.extract_resource_arn
request_context = iam_actions.request_tag_context
check_capabilities = provisioners._check_nested_stack_capabilities
update_resource = provisioners._update_resource
metric_alarm_record = provisioners._cw_metric_alarm_record
create_rule = provisioners._eb_rule_create
list_subscriptions = sns._list_subscriptions_by_topic
create_replication_group = elasticache._create_replication_group
cluster_xml = elasticache._cluster_xml_inner
user_xml = elasticache._user_xml


def action(service: str, method: str, path: str, *rest: object) -> str | None:
    if path.startswith(OPERATION):
        return f"cloudwatch:{path.removeprefix(OPERATION)}"
    return extract_action(service, method, path, *rest)


def resource(service: str, method: str, path: str, *rest: object) -> str:
    return "*" if path.startswith(OPERATION) else extract_resource(service, method, path, *rest)


def context(service: str, name: str, body: bytes, params: dict) -> dict:
    known = request_context(service, name, body, params)
    if name != "cloudwatch:PutMetricData":
        return known
    return {**known, "cloudwatch:namespace": cbor2.loads(body)["Namespace"]}


def transformed(parent: str, template: dict) -> None:
    """Transforms the template in place. The emulator goes on with this template once its capabilities are checked."""
    check_capabilities(parent, template)
    result = engine._apply_transforms(template)
    template.clear()
    template.update(result)


def with_attributes(
    kind: str, name: str, before: dict, after: dict, stack: str, logical_id: str, attributes: dict | None = None
) -> tuple:
    known = _stacks[stack]["_resources"][logical_id]["Attributes"] if attributes is None else attributes
    return update_resource(kind, name, before, after, stack, logical_id, known)


def with_metric_math(name: str, properties: dict) -> dict:
    if "Metrics" not in properties:
        return metric_alarm_record(name, properties)
    properties = dict(properties)
    metrics = properties.pop("Metrics")
    record = metric_alarm_record(name, {**properties, "Namespace": "none", "MetricName": "none"})
    for key in ("Namespace", "MetricName", "Dimensions", "Statistic", "Period"):
        del record[key]
    return {**record, "Metrics": metrics}


def put_composite_alarm(name: str, properties: dict) -> tuple[str, dict]:
    status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, is_json=True)
    if status != 200:
        raise ValueError(body)
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def create_composite_alarm(logical_id: str, properties: dict, stack: str) -> tuple[str, dict]:
    return put_composite_alarm(provisioners._physical_name(stack, logical_id, max_len=255), properties)


def update_composite_alarm(name: str, before: dict, properties: dict, stack: str) -> tuple[str, dict]:
    return put_composite_alarm(name, properties)


def delete_composite_alarm(name: str, properties: dict) -> None:
    cloudwatch._delete_alarms({}, {"AlarmNames": [name]}, False, is_json=True)


def save_query(logical_id: str, properties: dict, stack: str) -> tuple[str, dict]:
    name = provisioners._physical_name(stack, logical_id)
    return name, {"QueryDefinitionId": name}


def create_another_rule(logical_id: str, properties: dict, stack: str) -> tuple[str, dict]:
    """Refuses a name that is taken, in the words that CloudFormation has for a bucket's name. Nobody has seen its
    words for a rule."""
    name = properties.get("Name")
    if name and eventbridge._rule_key(name, provisioners._eb_rule_bus_name(properties)) in eventbridge._rules:
        raise ValueError(f"Resource of type 'AWS::Events::Rule' with identifier '{name}' already exists.")
    return create_rule(logical_id, properties, stack)


def with_unconfirmed_mail(params: dict) -> tuple[int, dict, bytes]:
    status, headers, body = list_subscriptions(params)
    mail = rb"<SubscriptionArn>[^<]*(?=</SubscriptionArn>((?!</member>).)*<Protocol>email<)"
    return status, headers, re.sub(mail, b"<SubscriptionArn>PendingConfirmation", body)


def rule_of_a_group(is_egress: bool) -> dict:
    """Returns what creates and deletes a rule that stands apart from its group."""
    permissions = "IpPermissionsEgress" if is_egress else "IpPermissions"

    def create(logical_id: str, properties: dict, stack: str) -> tuple[str, dict]:
        group = properties["GroupId"]
        [rule] = provisioners._ec2_sg_permissions([properties])
        rule["SecurityGroupRuleId"] = ec2._sg_rule_id(group, is_egress, rule)
        ec2._security_groups[group][permissions].append(rule)
        return rule["SecurityGroupRuleId"], {"Id": rule["SecurityGroupRuleId"]}

    def delete(rule: str, properties: dict) -> None:
        rules = ec2._security_groups[properties["GroupId"]][permissions]
        rules[:] = [other for other in rules if other.get("SecurityGroupRuleId") != rule]

    return {"create": create, "delete": delete}


def with_endpoints_and_topic(parameters: dict) -> tuple:
    answer = create_replication_group(parameters)
    name = elasticache._p(parameters, "ReplicationGroupId")
    port = int(elasticache._p(parameters, "Port") or 6379)
    created = elasticache._replication_groups[name]
    for group in created["NodeGroups"]:
        group["PrimaryEndpoint"] = {"Address": f"master.{name}.example.com", "Port": port}
        group["ReaderEndpoint"] = {"Address": f"replica.{name}.example.com", "Port": port}
    for node in created["MemberClusters"]:
        elasticache._clusters[node]["NotificationTopicArn"] = elasticache._p(parameters, "NotificationTopicArn")
    return answer


def with_topic(cluster: dict) -> str:
    topic = cluster.get("NotificationTopicArn")
    if not topic:
        return cluster_xml(cluster)
    members = f"<TopicArn>{topic}</TopicArn><TopicStatus>active</TopicStatus>"
    return f"{cluster_xml(cluster)}<NotificationConfiguration>{members}</NotificationConfiguration>"


def response_url(token: str) -> str:
    """Returns a URL in AWS's bucket with the emulator's own path. The function sends the answer to AWS_ENDPOINT_URL,
    like every call."""
    return f"{BUCKET}/_ministack/cfn-response/{token}"


def tagged_target_groups() -> Iterator[tuple[str, list]]:
    for arn, tags in alb._tags.items():
        if ":targetgroup/" in arn:
            yield arn, tags


def with_escaped_access(user: dict) -> str:
    return user_xml({**user, "AccessString": escape(user["AccessString"])})


iam_actions.extract_iam_action = action
iam_actions.extract_resource_arn = resource
iam_actions.request_tag_context = context
provisioners._check_nested_stack_capabilities = transformed
custom_resource._response_url = response_url
provisioners._update_resource = with_attributes
provisioners._cw_metric_alarm_record = with_metric_math
provisioners._eb_rule_create = create_another_rule
provisioners._RESOURCE_HANDLERS["AWS::Events::Rule"]["create"] = create_another_rule
provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
    "create": create_composite_alarm,
    "update": update_composite_alarm,
    "delete": delete_composite_alarm,
}
provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
    "create": save_query,
    "update": lambda name, *_: (name, {"QueryDefinitionId": name}),
    "delete": lambda *_: None,
}
for name, is_egress in (("Ingress", False), ("Egress", True)):
    provisioners._RESOURCE_HANDLERS[f"AWS::EC2::SecurityGroup{name}"] = rule_of_a_group(is_egress)
sns._list_subscriptions_by_topic = with_unconfirmed_mail
elasticache._create_replication_group = with_endpoints_and_topic
elasticache._cluster_xml_inner = with_topic
elasticache._user_xml = with_escaped_access
for collectors in (tagging._COLLECTORS, tagging._RESOURCE_TAG_COLLECTORS):
    collectors["elasticloadbalancing"] = tagged_target_groups

if __name__ == "__main__":
    from ministack.app import main

    main()
