"""Does the front door's job the way it is usually written, with redis-py and the official runtime client.

`make bench` measures it beside the front door. It checks a token, sends commands in one pipeline and answers with their
replies. It has no list of commands, and nothing that keeps a write from happening twice."""

import base64
import hashlib
import hmac
import json
import os
import ssl

import redis

TOKEN = os.environ["WRITE_TOKEN_SHA256"]

client = redis.Redis(
    host=os.environ["ENDPOINT"],
    port=int(os.environ["PORT"]),
    password=os.environ.get("CACHE_PASSWORD"),
    ssl=True,
    ssl_ca_certs=os.environ.get("SSL_CERT_FILE", ssl.get_default_verify_paths().cafile),
    socket_timeout=5,
)


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


def result(reply):
    if isinstance(reply, redis.RedisError):
        return {"error": str(reply)}
    return {"result": text(reply)}


def text(reply):
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, (list, tuple)):
        return [text(one) for one in reply]
    return "OK" if reply is True else reply


def handler(event, context):
    _, _, token = event["headers"].get("authorization", "").partition("Bearer ")
    if not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), TOKEN):
        return answer(401, {"error": "WRONGPASS the token is wrong"})
    body = event["body"]
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    commands = json.loads(body)
    is_pipeline = event["rawPath"] == "/pipeline"
    pipeline = client.pipeline(transaction=False)
    for command in commands if is_pipeline else [commands]:
        pipeline.execute_command(*command)
    results = [result(reply) for reply in pipeline.execute(raise_on_error=False)]
    return answer(200, results if is_pipeline else results[0])
