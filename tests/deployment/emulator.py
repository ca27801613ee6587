"""The AWS emulator, taught what it does not know of CloudWatch's permissions.

It authorizes calls of the protocol that the SDK speaks to CloudWatch (Smithy RPC v2 CBOR) without asking IAM, and does
not know the condition key `cloudwatch:namespace`.
"""

import cbor2
from ministack.core import iam_actions

OPERATION = "/service/GraniteServiceVersion20100801/operation/"

extract_action = iam_actions.extract_iam_action
extract_resource = iam_actions.extract_resource_arn
request_context = iam_actions.request_tag_context


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


iam_actions.extract_iam_action = action
iam_actions.extract_resource_arn = resource
iam_actions.request_tag_context = context

if __name__ == "__main__":
    from ministack.app import main

    main()
