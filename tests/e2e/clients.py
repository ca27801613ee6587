"""Tries the clients of the documentation through a load balancer: the snippets as they stand there, and the traps that
bring people here. Prints what each client says, and after how long."""

import dataclasses
import re
import subprocess
import sys
import time

from snippets import snippets
from stack import HERE, NLB, PASSWORD, PORT, caches, path_of, try_at_once

# A client that says nothing for this many seconds counts as one that waits.
PATIENCE = 10
ENDED_WITHIN = 60

WITHOUT_TLS = {
    "redis-py": f'import redis\nclient = redis.Redis(host="{NLB}", port={PORT})',
    "redis-py asyncio": f'import redis.asyncio\nclient = redis.asyncio.from_url("redis://{NLB}:{PORT}")',
    "Django": 'CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", '
    f'"LOCATION": "redis://{NLB}:{PORT}"}}}}',
    "ioredis": f'import Redis from "ioredis";\nconst client = new Redis({{ host: "{NLB}", port: {PORT} }});',
    "redis-cli": "redis-cli -h $NLB ping",
}
WITHOUT_SERVER_NAME = {
    "redis-py": f'import os, redis\nclient = redis.Redis(host="{NLB}", port={PORT}, ssl=True)',
    "redis-py asyncio": f'import redis.asyncio\nclient = redis.asyncio.from_url("rediss://{NLB}:{PORT}")',
    "Django": 'CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", '
    f'"LOCATION": "rediss://{NLB}:{PORT}"}}}}',
    "ioredis": f'import Redis from "ioredis";\nconst client = new Redis({{ host: "{NLB}", port: {PORT}, tls: {{}} }});',
}
PYTHON = {"redis-py": "sync", "redis-py asyncio": "asyncio", "Django": "django"}


@dataclasses.dataclass
class Case:
    """A client, the situation that it is tried in, and what it is expected to say."""

    client: str
    what: str
    snippet: str
    expected: str
    balancer: str = "primary"
    password: str | None = PASSWORD


def cases():
    documented = snippets()

    def of(what, python, others, texts, **options):
        """Returns a case for each client, with what the clients of Python say, and what the others say."""
        expected = dict.fromkeys(PYTHON, python) | others if python else others
        return [Case(client, what, texts[client], said, **options) for client, said in expected.items()]

    other_name = "Hostname/IP does not match certificate's altnames"
    without_askpass = documented | {"redis-cli": documented["redis-cli"].replace(" --askpass", "")}
    demoted = {"ioredis": "READONLY", "redis-cli": "^slave"}
    return [
        *of("as documented", "^written$", {"ioredis": "^written$", "redis-cli": "^master", "openssl": "^status 0"}, documented),
        *of(
            "a certificate for another name",
            "Hostname mismatch, certificate is not valid",
            {"ioredis": other_name, "openssl": "^status 1.*ostname mismatch"},
            documented,
            balancer="other",
        ),
        # redis-cli verifies only the authority.
        *of("a certificate for another name", None, {"redis-cli": "^master"}, documented, balancer="other"),
        *of(
            "without TLS",
            "ConnectionError: ",
            {"ioredis": "^still waits, error event: ", "redis-cli": "^Error: "},
            WITHOUT_TLS,
        ),
        *of("TLS without the server name", "certificate is not valid for", {"ioredis": other_name}, WITHOUT_SERVER_NAME),
        *of(
            "no password",
            "^AuthenticationError: ",
            {"ioredis": "NOAUTH", "redis-cli": "^NOAUTH"},
            without_askpass,
            password=None,
        ),
        *of(
            "a wrong password",
            "^AuthenticationError: ",
            {"ioredis": "WRONGPASS", "redis-cli": "^AUTH failed: WRONGPASS"},
            documented,
            password="another",
        ),
        *of("a demoted node", "^ReadOnlyError: ", demoted, documented, balancer="replica"),
    ]


class Runner:
    def __init__(self, stack):
        self.stack = stack

    def run(self, case):
        """Returns what the client said, and after how many seconds."""
        environment = self.stack.environment(case.balancer, case.password) | {"PATIENCE_SECONDS": str(PATIENCE)}
        begin = time.monotonic()
        said = self.command(case, environment)
        return said, time.monotonic() - begin

    def command(self, case, environment):
        options = {"capture_output": True, "text": True, "env": environment, "timeout": ENDED_WITHIN}
        if case.client in PYTHON:
            command = [sys.executable, HERE / "python_client.py", PYTHON[case.client]]
            completed = subprocess.run(command, input=case.snippet, **options)
        elif case.client == "ioredis":
            script = case.snippet + (HERE / "ioredis_command.js").read_text()
            command = self.stack.node_command(case.what.replace(" ", "-"), script)
            completed = subprocess.run(command, **options)
        else:
            # If redis-cli asks for a password, it reads it from here.
            command = case.snippet.replace("redis-cli", path_of("redis-cli"), 1)
            completed = subprocess.run(["bash", "-c", command], input=f"{case.password or ''}\n", **options)
        lines = completed.stdout.splitlines() + completed.stderr.splitlines()
        if case.client == "openssl":
            errors = [line for line in lines if line.startswith("verify error")]
            return " ".join([f"status {completed.returncode}", *errors])
        # redis-cli says why it is not let in before it says that the command needs a password.
        refused = [line for line in lines if line.startswith("AUTH failed")]
        return (refused + lines + ["nothing"])[0]


def main():
    tried = cases()
    with caches() as stack:
        stack.start_haproxy({node: [node] for node in ("primary", "replica", "other")})
        outcomes = try_at_once(Runner(stack).run, tried)
    unexpected = 0
    for case, (said, seconds) in zip(tried, outcomes):
        is_expected = re.search(case.expected, said) is not None
        unexpected += not is_expected
        print(f"{case.what:32} {case.client:18} {seconds:5.1f} s  {said}")
        if not is_expected:
            print(f"UNEXPECTED, instead of {case.expected!r}")
    print(f"{len(tried)} cases, {unexpected} unexpected")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
