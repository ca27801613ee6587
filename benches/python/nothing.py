"""Does nothing, which is what every Python function takes at least."""


def handler(event, context):
    return {"statusCode": 200, "body": event["body"]}
