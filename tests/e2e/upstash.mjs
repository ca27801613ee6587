// Uses @upstash/redis as it is published. The arguments are the URL, the token that writes, and the one that reads.
import assert from "node:assert/strict";
import { Redis } from "@upstash/redis";

const [url, writeToken, readToken] = process.argv.slice(2);
const redis = new Redis({ url, token: writeToken, retry: false });

assert.equal(await redis.get("greeting"), "hello world");
await redis.del("text", "unicode", "object", "number", "counter", "soon", "hash", "scores", "list", "a", "b");
assert.equal(await redis.set("text", "a value with spaces"), "OK");
assert.equal(await redis.get("text"), "a value with spaces");
assert.equal(await redis.get("nothing"), null);
assert.equal(await redis.set("unicode", "żółć 🦀"), "OK");
assert.equal(await redis.get("unicode"), "żółć 🦀");
assert.equal(await redis.set("object", { a: [1, null, "x"], b: true }), "OK");
assert.deepEqual(await redis.get("object"), { a: [1, null, "x"], b: true });
assert.equal(await redis.set("number", 12.5), "OK");
assert.equal(await redis.get("number"), 12.5);
assert.equal(await redis.incr("counter"), 1);
assert.equal(await redis.setex("soon", 100, "gone"), "OK");
assert.ok((await redis.ttl("soon")) > 90);
assert.equal(await redis.hset("hash", { a: 1, b: "two" }), 2);
assert.deepEqual(await redis.hgetall("hash"), { a: 1, b: "two" });
assert.equal(await redis.hgetall("nothing"), null);
assert.equal(await redis.zadd("scores", { score: 1, member: "a" }, { score: 2.5, member: "b" }), 2);
assert.deepEqual(await redis.zrange("scores", 0, -1), ["a", "b"]);
assert.deepEqual(await redis.zrange("scores", 0, -1, { withScores: true }), ["a", 1, "b", 2.5]);
assert.equal(await redis.lpush("list", "x", "y"), 2);
assert.deepEqual(await redis.lrange("list", 0, -1), ["y", "x"]);

const found = [];
let cursor = "0";
do {
    const [next, keys] = await redis.scan(cursor, { match: "*", count: 3 });
    found.push(...keys);
    cursor = next;
} while (cursor !== "0");
assert.ok(found.includes("hash") && found.includes("unicode"));

const pipeline = redis.pipeline();
pipeline.set("a", 1).incr("a").get("a").hgetall("hash");
assert.deepEqual(await pipeline.exec(), ["OK", 2, 2, { a: 1, b: "two" }]);
const withErrors = redis.pipeline();
withErrors.get("a").lpush("a", "no list").get("a");
const replies = await withErrors.exec({ keepErrors: true });
assert.deepEqual(replies.map((reply) => reply.result ?? null), [2, null, 2]);
assert.match(replies[1].error, /WRONGTYPE/);

const transaction = redis.multi();
transaction.set("b", 1).incrby("b", 41).get("b");
assert.deepEqual(await transaction.exec(), ["OK", 42, 42]);
const discarded = redis.multi();
discarded.set("b", 7).keys("*");
await assert.rejects(discarded.exec(), /NOPERM KEYS/);
assert.equal(await redis.get("b"), 42);

await assert.rejects(redis.flushall(), /NOPERM FLUSHALL/);
await assert.rejects(redis.lpush("text", "x"), /WRONGTYPE/);
const stranger = new Redis({ url, token: "wrong", retry: false });
await assert.rejects(stranger.get("a"), /WRONGPASS/);
await assert.rejects(stranger.pipeline().get("a").exec(), /WRONGPASS/);
const reader = new Redis({ url, token: readToken, retry: false });
assert.equal(await reader.get("b"), 42);
await assert.rejects(reader.set("b", 1), /NOPERM SET/);
const plain = new Redis({ url, token: writeToken, retry: false, responseEncoding: false });
assert.equal(await plain.get("text"), "a value with spaces");
const auto = new Redis({ url, token: writeToken, retry: false, enableAutoPipelining: true });
assert.deepEqual(await Promise.all([auto.get("text"), auto.get("b")]), ["a value with spaces", 42]);
console.log("passed");
