"""Tries the front door on real nodes with TLS and AUTH: every command of the server as reader and as writer, the SDKs as
they are published, and writes through failovers, cuts and pauses, none of which may happen twice."""

import collections
import concurrent.futures
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

from function_url import Function, Handler, serving
from sdks import try_sdks
from stack import CACHE, HERE, PASSWORD, Stack, path_of, require_programs

BINARY = os.environ["FRONT_DOOR_BINARY"]
TABLE = HERE.parent.parent / "front-door/src/commands/table.rs"
SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cache-AbCdEf"
READ_TOKEN, WRITE_TOKEN = "a token that reads", "a token that writes"
# Categories that no command of the front door has, but for those that block only with an option.
REFUSED = {"@dangerous", "@blocking", "@scripting", "@admin"}
WRITES = 10_000
CLIENTS = 8
FAILOVERS = 6


class Cache:
    """Two nodes behind an address that leads to the primary, and a secret with the password."""

    def __init__(self, stack):
        self.stack, self.password = stack, PASSWORD
        self.nodes = ["primary", "replica"]
        self.address = stack.balancer("front")
        certificate = stack.issuer.issue_cert(CACHE, self.address)
        certificate.private_key_and_cert_chain_pem.write_to_path(stack.folder / "front.pem")
        stack.start_node("primary", "front")
        stack.start_node("replica", "front", primary="primary")
        stack.start_haproxy({"front": self.nodes})

    def cli(self, *command, node=None):
        return self.stack.redis_cli(self.stack.node(node or self.nodes[0]), *map(str, command))

    def fail_over(self):
        """Promotes the replica as ElastiCache does in a planned failover, and then moves the name."""
        old, new = self.nodes
        target = self.stack.node(new)
        self.stack.wait_for(
            lambda: "OK" in self.cli("failover", "to", target, "6379", "timeout", "5000"), "no failover begins"
        )
        self.stack.wait_for(lambda: "master" in self.cli("role", node=new), "the replica is not promoted")
        self.stack.haproxy(f"disable server front/{old}; enable server front/{new}")
        self.nodes = [new, old]
        self.stack.wait_for(lambda: "connected" in self.cli("role", node=old), "the old primary does not follow")

    def secrets_manager(cache):
        """Answers GetSecretValue, by
        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""

        class Api(Handler):
            def do_POST(self):
                assert self.headers["x-amz-target"] == "secretsmanager.GetSecretValue", self.headers
                assert json.loads(self.body()) == {"SecretId": SECRET_ARN}
                secret = {"ARN": SECRET_ARN, "Name": "cache", "SecretString": cache.password}
                self.send(200, json.dumps(secret).encode(), [("content-type", "application/x-amz-json-1.1")])

        return Api


@contextlib.contextmanager
def front_door(cache, sandboxes=1, **variables):
    digest = lambda token: hashlib.sha256(token.encode()).hexdigest()
    with serving(cache.secrets_manager()) as port:
        settings = {
            "ENDPOINT": cache.address,
            "AUTHENTICATION": "SECRET",
            "SECRET_ARN": SECRET_ARN,
            "READ_TOKEN_SHA256": digest(READ_TOKEN),
            "WRITE_TOKEN_SHA256": digest(WRITE_TOKEN),
            "SSL_CERT_FILE": str(cache.stack.authority),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{port}",
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_LAMBDA_FUNCTION_NAME": "front-door",
            **variables,
        }
        log = cache.stack.folder / f"front-door-{time.monotonic_ns()}.log"
        with Function([BINARY], settings, log, sandboxes) as function:
            yield function


class Client:
    """Sends commands over one HTTP connection."""

    def __init__(self, function, token=WRITE_TOKEN):
        self.connection = http.client.HTTPConnection(function.url.removeprefix("http://"), timeout=30)
        self.headers = {"authorization": f"Bearer {token}"}

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), self.headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


def try_commands(cache):
    """Sends every command of the server as reader and writer. No refused one reaches it."""
    described = described_commands(cache)
    table = dict(re.findall(r'\("([A-Z_|]+)", ([A-Z][a-z]+)\)', TABLE.read_text()))
    expected = {name: kind for name, kind in ((name, kind_of(name, one)) for name, one in described.items()) if kind}
    known = {name: kind for name, kind in table.items() if name in described}
    assert known == expected, sorted(known.items() ^ expected.items())
    for token, allowed in ((READ_TOKEN, ["Read"]), (WRITE_TOKEN, ["Read", "Write", "Publish"])):
        with front_door(cache) as function:
            client = Client(function, token)
            before = calls(cache)
            # Without keys that exist, no command does anything to another.
            names = [[*name.split("|"), *["nothing"] * (abs(one["arity"]) - 1)] for name, one in described.items()]
            replies = []
            for some in batched(names, 50):
                status, answer = client.post("/pipeline", list(some))
                assert status == 200, answer
                replies += answer
            refused = {name for name, reply in zip(described, replies) if reply.get("error", "").startswith("NOPERM")}
            expected_refused = {name for name in described if table.get(name) not in allowed}
            assert refused == expected_refused, refused ^ expected_refused
            sent = collections.Counter(calls(cache)) - collections.Counter(before)
            # The function logs in, and so does the test, which asks for the numbers.
            own = {"auth": 2, "info": 1}
            reached = {name: count for name, count in sent.items() if name.upper() in refused}
            assert reached == own, reached
    return len(described)


def batched(items, count):
    return (items[start : start + count] for start in range(0, len(items), count))


def described_commands(cache):
    """Returns what COMMAND says about each command. A subcommand is named CONTAINER|SUBCOMMAND."""
    text = cache.cli("--json", "command")
    found, waiting = {}, json.loads(text)
    while waiting:
        name, arity, flags, _, _, _, categories, _, _, subcommands = waiting.pop()
        found[name.upper()] = {"arity": arity, "categories": set(categories)}
        waiting += subcommands
    assert len(found) > 300, text[:1000]
    return dict(sorted(found.items()))


def kind_of(name, one):
    """Returns the kind that the contract gives a command, by the server's own categories."""
    others = {"PING": "Read", "ECHO": "Read", "XREAD": "Read", "XREADGROUP": "Write", "PUBLISH": "Publish"}
    scripts = "EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO SCRIPT|EXISTS SCRIPT|LOAD".split()
    if name in others:
        return others[name]
    if name in scripts:
        return "Script"
    if one["categories"] & REFUSED:
        return None
    if "@write" in one["categories"]:
        return "Write"
    return "Read" if "@read" in one["categories"] else None


def calls(cache):
    """Returns how often each command reached the server."""
    text = cache.cli("info", "commandstats")
    stats = re.findall(r"cmdstat_([^:]+):calls=(\d+).*?rejected_calls=(\d+),failed_calls=(\d+)", text)
    return {name: int(count) + int(rejected) for name, count, rejected, _ in stats}


def try_large_reply(cache):
    """A value of 500 MB is refused, and the sandbox does not hold it."""
    cache.cli("setrange", "big", 500_000_000, "x")
    with front_door(cache, TIMEOUT_MS="8000") as function:
        client = Client(function)
        status, answer = client.post("/", ["GET", "big"])
        assert (status, answer["error"][:6]) == (413, "TOOBIG"), answer
        peak = peak_memory(function)
        assert peak < 40_000, f"{peak} kB"
        status, answer = client.post("/", ["GETRANGE", "big", 500_000_000, -1])
        assert answer == {"result": "x"}, answer
    cache.cli("del", "big")
    return peak


def peak_memory(function):
    """Returns the most memory that the sandbox had, in kB."""
    status = pathlib.Path(f"/proc/{function.sandboxes[0].pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def try_rotation(cache):
    """Rotates the password under a sandbox. If the secret stays behind, the cache refuses the login, which is told."""
    for node in cache.nodes:
        cache.cli("config", "set", "masterauth", "password-3", node=node)
    with front_door(cache, TIMEOUT_MS="2000") as function:
        client = Client(function)
        assert client.post("/", ["SET", "k", "v"]) == (200, {"result": "OK"})
        cache.password = "password-2"
        rotate(cache, PASSWORD, "password-2")
        assert client.post("/", ["GET", "k"]) == (200, {"result": "v"})
        rotate(cache, "password-2", "password-3")
        status, answer = client.post("/", ["GET", "k"])
        assert (status, answer["error"][:11]) == (503, "UNREACHABLE"), answer
        cache.password = "password-3"
        assert client.post("/", ["GET", "k"]) == (200, {"result": "v"})
        lines = function.lines()
        assert [line["level"] for line in lines] == ["INFO", "INFO", "ERROR", "INFO"], lines
        assert "WRONGPASS" in lines[2]["message"] and lines[2]["Failed"] == 1, lines[2]
        assert not re.search("password-[23]", json.dumps(lines)), lines
    cache.password = PASSWORD
    rotate(cache, "password-3", PASSWORD)
    for node in cache.nodes:
        cache.cli("config", "set", "masterauth", PASSWORD, node=node)
    cache.stack.wait_until_replicating(cache.nodes[1])


def rotate(cache, old, new):
    """Gives both nodes another password, and ends the connections that know the old one."""
    for node in cache.nodes:
        for password, command in ((old, f"config set requirepass {new!r}"), (new, "client kill type normal")):
            tls = ["--tls", "--insecure", "--no-auth-warning", "-a", password]
            redis_cli = [path_of("redis-cli"), "-h", cache.stack.node(node), *tls]
            subprocess.run(redis_cli, input=command, text=True, check=True, capture_output=True, timeout=10)


def try_writes(cache):
    """Counts each write in a hash, while the cache fails over, cuts connections and pauses. No write happens twice,
    every acknowledged one happened, and every one that was not sent did not."""
    numbers, answers, is_over = itertools.count(), {}, threading.Event()

    def write(function):
        client = Client(function)
        while (number := next(numbers)) < WRITES:
            command = ["HINCRBY", "run", number, 1]
            # Every other write is a transaction.
            path, body = ("/multi-exec", [command]) if number % 2 else ("/", command)
            status, answer = client.post(path, body)
            answers[number] = (status, answer[0] if isinstance(answer, list) else answer)

    def disturb():
        for round in itertools.count():
            for what in (cut, pause, cache.fail_over if round < FAILOVERS else cut):
                if is_over.wait(0.3):
                    return
                what()

    def cut():
        for node in cache.nodes:
            cache.stack.haproxy(f"shutdown sessions server front/{node}")

    def pause():
        cache.cli("client", "pause", 700, "all")

    with front_door(cache, CLIENTS, TIMEOUT_MS="600") as function:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS + 1) as pool:
            disturbing = pool.submit(disturb)
            writing = [pool.submit(write, function) for _ in range(CLIENTS)]
            for one in writing:
                one.result()
            is_over.set()
            disturbing.result()
    text = cache.cli("--json", "hgetall", "run")
    happened = {int(number): int(count) for number, count in json.loads(text).items()}
    codes = collections.Counter()
    for number, (status, answer) in answers.items():
        code = answer["error"].split()[0] if "error" in answer else "OK"
        codes[code] += 1
        count = happened.get(number, 0)
        expected = {"OK": [1], "UNKNOWN": [0, 1]}.get(code, [0])
        assert count in expected, f"write {number} happened {count} times, and its answer was {status} {answer}"
        assert code in ("OK", "UNKNOWN", "UNREACHABLE", "READONLY"), answer
    assert len(answers) == WRITES and codes["OK"] > WRITES / 2, codes
    assert codes["UNKNOWN"], "nothing was cut or paused while it was under way"
    return codes


def main():
    require_programs()
    with tempfile.TemporaryDirectory() as folder, Stack(pathlib.Path(folder)) as stack:
        cache = Cache(stack)
        print(f"{try_commands(cache)} commands of the server: as the table says, for readers and writers")
        with front_door(cache) as function:
            try_sdks(function.url, WRITE_TOKEN, READ_TOKEN)
        print("@upstash/redis and upstash-redis: passed")
        print(f"a reply of 500 MB: refused, {try_large_reply(cache)} kB of memory")
        try_rotation(cache)
        print("a rotated password: read again")
        print(f"{WRITES} writes through failovers, cuts and pauses: {dict(try_writes(cache))}")


if __name__ == "__main__":
    main()
