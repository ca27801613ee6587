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
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

import redis
from function_url import Function, Handler, serving
from sdks import try_sdks
from stack import CACHE, HERE, PASSWORD, PORT, Stack, path_of, require_programs

BINARY = os.environ["FRONT_DOOR_BINARY"]
TABLE = HERE.parent.parent / "front-door/src/commands/table.rs"
PAGE = HERE.parent.parent / "docs/front-door.md"
SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cache-AbCdEf"
READ_TOKEN, WRITE_TOKEN = "a token that reads", "a token that writes"
# Categories that no command of the front door has, but for those that block only with an option.
REFUSED = {"@dangerous", "@blocking", "@scripting", "@admin"}
WRITES = 10_000
WRITES_BEFORE_CRASH, WRITES_WITH_CRASH = 500, 2_000
CLIENTS = 8
FAILOVERS = 6
# After this many seconds, the front door tries a connection before it uses it.
IDLE = 10
CUTS_INSIDE = 5


class Cache:
    """Two nodes behind an address that leads to the primary, and a secret with the password."""

    def __init__(self, stack):
        self.stack, self.password = stack, PASSWORD
        self.nodes = ["primary", "replica"]
        self.address = stack.balancer("front")
        certificate = stack.issuer.issue_cert(CACHE, self.address, *map(stack.node, self.nodes))
        certificate.private_key_and_cert_chain_pem.write_to_path(stack.folder / "front.pem")
        self.processes = {
            "primary": stack.start_node("primary", "front"),
            "replica": stack.start_node("replica", "front", primary="primary"),
        }
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
        self.move_the_name()
        self.stack.wait_for(lambda: "connected" in self.cli("role", node=old), "the old primary does not follow")

    def crash(self):
        """Kills the primary. The replica is promoted, with what it has."""
        old, new = self.nodes
        self.processes[old].kill()
        assert "OK" in self.cli("replicaof", "no", "one", node=new)
        self.move_the_name()

    def move_the_name(self):
        old, new = self.nodes
        self.stack.haproxy(f"disable server front/{old}; enable server front/{new}")
        self.nodes = [new, old]

    def cut(self):
        """Ends all connections through the balancer, wherever they are."""
        for node in self.nodes:
            self.stack.haproxy(f"shutdown sessions server front/{node}")

    def secrets_manager(cache):
        """Answers GetSecretValue, by
        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""

        class Api(Handler):
            def do_POST(self):
                assert self.headers["x-amz-target"] == "secretsmanager.GetSecretValue", self.headers
                if json.loads(self.body()) != {"SecretId": SECRET_ARN}:
                    error = {"__type": "ResourceNotFoundException", "Message": "no such secret"}
                    return self.send(400, json.dumps(error).encode(), [("content-type", "application/x-amz-json-1.1")])
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


def try_users(cache):
    """Gives the cache the page's users, and asks it what each may send. It lets them in with any password, as it cannot
    check a token of IAM's. The function then works as these users."""
    access = dict(re.findall(r"^(reader|writer): (.+)$", PAGE.read_text(), re.MULTILINE))
    tls = {"ssl": True, "ssl_cert_reqs": "none"}
    connections = [redis.Redis(cache.stack.node(node), PORT, password=PASSWORD, **tls) for node in cache.nodes]
    for role, rules in access.items():
        for connection in connections:
            connection.execute_command("ACL SETUSER", f"front-door-{role}", "nopass", *rules.split())
    table = dict(re.findall(r'\("([A-Z_|]+)", ([A-Z][a-z]+)\)', TABLE.read_text()))
    described = described_commands(cache)
    containers = {name.split("|")[0] for name in described if "|" in name}
    for role, kinds in (("reader", ["Read"]), ("writer", ["Read", "Write", "Publish"])):
        allowed = set()
        for name in described.keys() - containers:
            parts = [*name.split("|"), *["nothing"] * (abs(described[name]["arity"]) - 1 - name.count("|"))]
            if connections[0].execute_command("ACL DRYRUN", f"front-door-{role}", *parts) == b"OK":
                allowed.add(name)
        # The function sends transactions by itself, and nobody can be denied to log in.
        others = {"MULTI", "EXEC", "DISCARD", "AUTH", "HELLO", "QUIT", "RESET"}
        expected = {name for name, kind in table.items() if kind in kinds and name in described} | others
        assert allowed == expected, (role, allowed ^ expected)
    variables = {"AUTHENTICATION": "IAM", "CACHE_NAME": "cache"}
    variables |= {"READER_USER": "front-door-reader", "WRITER_USER": "front-door-writer"}
    with front_door(cache, **variables) as function:
        writer, reader = Client(function), Client(function, READ_TOKEN)
        assert writer.post("/multi-exec", [["SET", "user", "v"]]) == (200, [{"result": "OK"}])
        assert reader.post("/", ["GET", "user"]) == (200, {"result": "v"})
        users = set(re.findall(r"user=(front-door-\w+)", cache.cli("client", "list")))
        assert users == {"front-door-reader", "front-door-writer"}, users
    for connection in connections:
        connection.execute_command("ACL DELUSER", "front-door-reader", "front-door-writer")
        connection.close()


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


def try_diagnosis(cache):
    """Asks a function what a request would hang on. It finds what the deployment was given, and nothing else, and no key
    is left in the cache."""
    access = dict(re.findall(r"^(reader|writer): (.+)$", PAGE.read_text(), re.MULTILINE))
    users = {f"front-door-{role}": f"nopass {rules}" for role, rules in access.items()}
    users["locked-reader"] = f">another {access['reader']}"
    users["no-key"] = "nopass " + access["writer"].replace("~*", "~app:*")
    for node, (user, rules) in itertools.product(cache.nodes, users.items()):
        assert "OK" in cache.cli("acl", "setuser", user, *rules.split(), node=node)
    iam = {"AUTHENTICATION": "IAM", "CACHE_NAME": "cache"}
    iam |= {"READER_USER": "front-door-reader", "WRITER_USER": "front-door-writer"}
    primary, replica = map(cache.stack.node, cache.nodes)
    size = cache.cli("dbsize")
    for variables, expected, says in (
        ({}, [], []),
        (iam, [], []),
        ({"ENDPOINT": replica}, ["readonly"], [replica, "READONLY", "primary endpoint"]),
        (iam | {"ENDPOINT": replica}, ["readonly"], ["READONLY"]),
        ({"ENDPOINT": f"{cache.stack.network}.250"}, ["refused"], ["Correct Port"]),
        ({"AUTHENTICATION": "NONE", "ENDPOINT": primary}, ["auth-required"], ["NOAUTH", "SECRET"]),
        ({"AUTHENTICATION": "NONE", "ENDPOINT": primary, "TLS": "false"}, ["tls-required"], ["with TLS", "Set Tls to true"]),
        ({"SECRET_ARN": SECRET_ARN + "2"}, ["login-unavailable"], ["SecretArn"]),
        ({"SECRET_ARN": SECRET_ARN + "2", "ENDPOINT": replica}, ["login-unavailable"], ["SecretArn"]),
        (iam | {"READER_USER": "locked-reader"}, ["auth-wrong"], ["locked-reader: WRONGPASS", "elasticache:Connect"]),
        (iam | {"WRITER_USER": "front-door-reader"}, ["not-permitted"], ["front-door-reader: NOPERM", "access string"]),
        (iam | {"WRITER_USER": "no-key"}, ["not-permitted"], ["no-key: NOPERM", "~drill:*"]),
        ({"PORT": "0"}, ["config-invalid"], ["PORT is"]),
    ):
        with front_door(cache, **variables) as function:
            answer = function.runtime.invoke({"diagnose": True})
            ids = [finding["id"] for finding in answer["findings"]]
            assert ids == expected, (variables, answer)
            text = json.dumps(answer)
            assert all(part in text for part in says), (says, answer)
            assert PASSWORD not in text and "X-Amz" not in text, answer
            assert function.lines() == [{"level": "INFO", "message": "diagnosed", **answer}], function.lines()
    assert cache.cli("dbsize") == size
    for node in cache.nodes:
        cache.cli("acl", "deluser", *users, node=node)


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


def try_idle_connections(cache):
    """A connection that idled is used again if it answers. If its node hangs meanwhile, a write goes to the new primary,
    once."""
    with front_door(cache) as function:
        client = Client(function)
        assert client.post("/", ["SET", "idle", 0]) == (200, {"result": "OK"})
        before = calls(cache)
        time.sleep(IDLE + 0.5)
        assert client.post("/", ["INCR", "idle"]) == (200, {"result": 1})
        after = calls(cache)
        sent = {name: after[name] - before.get(name, 0) for name in ("ping", "incr", "auth")}
        # The second login is the test's own.
        assert sent == {"ping": 1, "incr": 1, "auth": 1}, sent

        old = cache.nodes[0]
        cache.fail_over()
        cache.processes[old].send_signal(signal.SIGSTOP)
        try:
            time.sleep(IDLE + 0.5)
            assert client.post("/", ["INCR", "idle"]) == (200, {"result": 2})
        finally:
            cache.processes[old].send_signal(signal.SIGCONT)
        assert [line["Reconnects"] for line in function.lines()] == [0, 0, 1], function.lines()
    cache.stack.wait_until_replicating(old)


def try_cuts_inside_replies(cache):
    """Cuts connections until some were cut in the middle of a large reply. The replies before it count. What only reads is
    sent again, and never answered with half a value."""
    value = "".join(f"{number:07}" for number in range(500_000))
    limit = str(4 * 1024 * 1024)
    is_over = threading.Event()

    def cut():
        while not is_over.wait(random.uniform(0.01, 0.05)):
            cache.cut()

    def is_cut_inside(line):
        return "UNKNOWN" in line["codes"] and len(":1\r\n") < line["replyBytes"] < len(value)

    with (
        front_door(cache, MAX_REPLY_BYTES=limit, MAX_REQUEST_BYTES=limit) as function,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        client = Client(function)
        assert client.post("/", ["SET", "large", value]) == (200, {"result": "OK"})
        cutting = pool.submit(cut)
        fields = itertools.count()
        begun = time.monotonic()
        try:
            while sum(map(is_cut_inside, function.lines())) < CUTS_INSIDE:
                assert time.monotonic() < begun + 60, "no connection is cut in the middle of a reply"
                field = next(fields)
                status, answer = client.post("/pipeline", [["HINCRBY", "before", field, 1], ["GET", "large"]])
                first, large = answer if status == 200 else (answer, answer)
                happened = cache.cli("hget", "before", field).strip()
                assert happened in (["1"] if "result" in first else ["", "1"]), (field, happened, first)
                assert_whole(large, value)
                status, answer = client.post("/", ["GET", "large"])
                assert_whole(answer, value)
        finally:
            is_over.set()
        cutting.result()
    cache.cli("del", "large")


def assert_whole(answer, value):
    found = answer.get("result", value)
    assert found == value, f"a value of {len(found)} bytes in the place of {len(value)}"


def write_through(cache, key, total, disturb):
    """Counts each write in a hash, while the cache is disturbed. Returns what was answered to each write with how often it
    happened, and how often each code was answered. No write happens twice."""
    numbers, answers, is_over = itertools.count(), {}, threading.Event()

    def write(function):
        client = Client(function)
        while (number := next(numbers)) < total:
            command = ["HINCRBY", key, number, 1]
            # Every other write is a transaction.
            path, body = ("/multi-exec", [command]) if number % 2 else ("/", command)
            status, answer = client.post(path, body)
            answer = answer[0] if isinstance(answer, list) else answer
            answers[number] = answer["error"].split()[0] if "error" in answer else "OK"

    with front_door(cache, CLIENTS, TIMEOUT_MS="600") as function:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS + 1) as pool:
            disturbing = pool.submit(disturb, answers, is_over)
            writing = [pool.submit(write, function) for _ in range(CLIENTS)]
            try:
                for one in writing:
                    one.result()
            finally:
                is_over.set()
            disturbing.result()
    text = cache.cli("--json", "hgetall", key)
    happened = {int(number): int(count) for number, count in json.loads(text).items()}
    twice = {number: answers[number] for number, count in happened.items() if count > 1}
    assert not twice, f"these writes happened more than once: {twice}"
    codes = collections.Counter(answers.values())
    assert codes.keys() <= {"OK", "UNKNOWN", "UNREACHABLE", "READONLY"}, codes
    assert codes["OK"] > total / 2 and sum(codes.values()) == total, codes
    return {number: (code, happened.get(number, 0)) for number, code in answers.items()}, dict(codes)


def try_writes(cache):
    """Writes while the cache fails over as planned, cuts connections and pauses. Every acknowledged write happened, and
    every one that was not sent did not."""

    def disturb(_, is_over):
        for round in itertools.count():
            for what in (cache.cut, pause, cache.fail_over if round < FAILOVERS else cache.cut):
                if is_over.wait(0.3):
                    return
                what()

    def pause():
        cache.cli("client", "pause", 700, "all")

    writes, codes = write_through(cache, "run", WRITES, disturb)
    for number, (code, count) in writes.items():
        expected = {"OK": [1], "UNKNOWN": [0, 1]}.get(code, [0])
        assert count in expected, f"write {number} happened {count} times, and its answer was {code}"
    assert codes["UNKNOWN"], "nothing was cut or paused while it was under way"
    return codes


def try_crash(cache):
    """Writes while the primary crashes. The cache may lose writes then, but none happens twice."""

    def disturb(answers, _):
        cache.stack.wait_for(lambda: len(answers) > WRITES_BEFORE_CRASH, "nothing is written")
        cache.crash()

    writes, codes = write_through(cache, "crash", WRITES_WITH_CRASH, disturb)
    assert len(codes) > 1, "no write noticed the crash"
    lost = sum(code == "OK" and count == 0 for code, count in writes.values())
    return f"{codes}, of which the cache lost {lost}"


def main():
    require_programs()
    with tempfile.TemporaryDirectory() as folder, Stack(pathlib.Path(folder)) as stack:
        cache = Cache(stack)
        print(f"{try_commands(cache)} commands of the server: as the table says, for readers and writers")
        try_users(cache)
        print("the users of the cache: may send what the table says")
        try_diagnosis(cache)
        print("what a request would hang on: found, and nothing else")
        with front_door(cache) as function:
            try_sdks(function.url, WRITE_TOKEN, READ_TOKEN)
        print("@upstash/redis and upstash-redis: passed")
        print(f"a reply of 500 MB: refused, {try_large_reply(cache)} kB of memory")
        try_rotation(cache)
        print("a rotated password: read again")
        try_idle_connections(cache)
        print("connections that idled: used again, or made anew")
        try_cuts_inside_replies(cache)
        print("connections cut inside a reply: no half value")
        print(f"{WRITES} writes through failovers, cuts and pauses: {try_writes(cache)}")
        # It comes last, since nobody starts the node again.
        print(f"{WRITES_WITH_CRASH} writes through a crash: {try_crash(cache)}")


if __name__ == "__main__":
    main()
