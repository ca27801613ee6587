"""Uses upstash-redis as it is published. The arguments are the URL, the token that writes, and the one that reads."""

import sys

from upstash_redis import Redis
from upstash_redis.errors import UpstashError

URL, WRITE_TOKEN, READ_TOKEN = sys.argv[1:]


def client(token, **options):
    return Redis(url=URL, token=token, rest_retries=0, allow_telemetry=False, **options)


def refused(call, code):
    try:
        call()
    except UpstashError as error:
        assert code in str(error), error
    else:
        raise AssertionError(f"expected {code}")


for encoding in ("base64", None):
    redis = client(WRITE_TOKEN, rest_encoding=encoding)
    redis.delete("text", "hash", "scores", "a", "b")
    assert redis.set("text", "a value with spaces żółć 🦀") is True
    assert redis.get("text") == "a value with spaces żółć 🦀"
    assert redis.get("nothing") is None
    assert redis.hset("hash", values={"a": 1, "b": "two"}) == 2
    assert redis.hgetall("hash") == {"a": "1", "b": "two"}
    assert redis.zadd("scores", {"a": 1, "b": 2.5}) == 2
    assert redis.zrange("scores", 0, -1, withscores=True) == [("a", 1.0), ("b", 2.5)]
    cursor, found = redis.scan(0, count=1000)
    assert cursor == 0 and {"text", "hash", "scores"} <= set(found), found
    pipeline = redis.pipeline()
    pipeline.set("a", 1).incr("a").get("a")
    assert pipeline.exec() == [True, 2, "2"]
    transaction = redis.multi()
    transaction.set("b", 1).incrby("b", 41).get("b")
    assert transaction.exec() == [True, 42, "42"]
    try:
        redis.multi().set("b", 7).execute(["KEYS", "*"]).exec()
    except AttributeError:
        # The SDK expects a list, which Upstash does not send for a transaction that was discarded, either.
        assert redis.get("b") == "42"
    else:
        raise AssertionError("the transaction was not discarded")
    refused(lambda: redis.flushall(), "NOPERM FLUSHALL")
    refused(lambda: redis.lpush("text", "x"), "WRONGTYPE")
    refused(lambda: client("wrong").get("a"), "WRONGPASS")
    reader = client(READ_TOKEN)
    assert reader.get("b") == "42"
    refused(lambda: reader.set("b", 1), "NOPERM SET")
print("passed")
