"""The AWS emulator, taught what it does not know of CloudWatch's permissions, of nested stacks and of ElastiCache.

It authorizes calls of the protocol that the SDK speaks to CloudWatch (Smithy RPC v2 CBOR) without asking IAM, and does
not know the condition key `cloudwatch:namespace`. It transforms no nested stack's template. And it gives both endpoints
of a cache one name.
"""

import cbor2
from ministack.core import iam_actions
from ministack.services import elasticache
from ministack.services.cloudformation import custom_resource, engine, provisioners

BUCKET = "https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com"
OPERATION = "/service/GraniteServiceVersion20100801/operation/"

extract_action = iam_actions.extract_iam_action
extract_resource = iam_actions.extract_resource_arn
request_context = iam_actions.request_tag_context
check_capabilities = provisioners._check_nested_stack_capabilities
create_replication_group = elasticache._create_replication_group


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
    """In place: the emulator goes on with this template once its capabilities are checked."""
    check_capabilities(parent, template)
    result = engine._apply_transforms(template)
    template.clear()
    template.update(result)


def with_two_endpoints(parameters: dict) -> tuple:
    answer = create_replication_group(parameters)
    name = elasticache._p(parameters, "ReplicationGroupId")
    for group in elasticache._replication_groups[name]["NodeGroups"]:
        group["PrimaryEndpoint"] = {"Address": f"master.{name}.example.com", "Port": 6379}
        group["ReaderEndpoint"] = {"Address": f"replica.{name}.example.com", "Port": 6379}
    return answer


def response_url(token: str) -> str:
    """The path is the emulator's own: the function sends the answer to AWS_ENDPOINT_URL, like every call."""
    return f"{BUCKET}/_ministack/cfn-response/{token}"


iam_actions.extract_iam_action = action
iam_actions.extract_resource_arn = resource
iam_actions.request_tag_context = context
provisioners._check_nested_stack_capabilities = transformed
custom_resource._response_url = response_url
elasticache._create_replication_group = with_two_endpoints

if __name__ == "__main__":
    from ministack.app import main

    main()
