"""Measures the front door beside a Python function for the same job. Both are whole processes under the Lambda Runtime
API, in turn, before one Redis server with TLS and a password. A warm request takes at least what a function takes that
does nothing, and what a bare client of the redis crate takes, so these are measured too. Prints the table, and with
`--document` writes it into docs/front-door.md.

It runs in the environment of `make e2e`, which has the server and the Runtime API. The Python function has its own."""

import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "tests/e2e"))

from front_door import SECRET_ARN, Cache  # noqa: E402
from function_url import Function, event, serving  # noqa: E402
from stack import PASSWORD, PORT, Stack, require_programs  # noqa: E402

PYTHON = PROJECT / ".venv-bench/bin/python"
BINARY = os.environ["FRONT_DOOR_BINARY"]
PROGRAMS = {
    "front door": [BINARY],
    "Python, redis-py": [PYTHON, "-m", "awslambdaric", "front_door.handler"],
}
PYTHON_NOTHING = [PYTHON, "-m", "awslambdaric", "nothing.handler"]
TOKEN = "a token"
RUNS = 20
WARM = 100
COMMANDS = 100
PAGE = PROJECT / "docs/front-door.md"
MARK = "<!-- make bench DOCUMENT=--document writes what follows -->\n"
UNITS = {"first": "ms", "nothing": "ms", "one": "ms", "hundred": "ms", "memory": "MiB", "zip": "MB"}
ROWS = {
    "first": "start to the first reply",
    "nothing": "a warm invocation that does nothing",
    "one": "a warm request with 1 command",
    "hundred": f"a warm request with {COMMANDS} commands",
    "memory": "peak memory",
    "zip": "zip",
}


def variables(cache, secrets_port):
    return {
        "ENDPOINT": cache.address,
        "PORT": str(PORT),
        "AUTHENTICATION": "SECRET",
        "SECRET_ARN": SECRET_ARN,
        "WRITE_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "SSL_CERT_FILE": str(cache.stack.authority),
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{secrets_port}",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_LAMBDA_FUNCTION_NAME": "front-door",
        # The Python function takes the password from here, which saves it the call that the front door makes.
        "CACHE_PASSWORD": PASSWORD,
        "LAMBDA_TASK_ROOT": str(PROJECT / "benches/python"),
        "PYTHONPATH": str(PROJECT / "benches/python"),
    }


def request(path, body):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    return event("POST", path, "", headers, json.dumps(body).encode())


def measure(program, settings, folder):
    """Starts a process, and returns what it took. Times are in milliseconds."""
    log = folder / "bench.log"
    function = Function(PROGRAMS[program], settings, log)
    begin = time.perf_counter()
    with function:
        invoke(function, "/", ["GET", "key"], 1)
        measured = {"first": (time.perf_counter() - begin) * 1000}
        for name, path, body, count in (
            ("one", "/", ["GET", "key"], 1),
            ("hundred", "/pipeline", [["GET", "key"]] * COMMANDS, COMMANDS),
        ):
            measured[name] = statistics.median(invoke(function, path, body, count) for _ in range(WARM))
        status = pathlib.Path(f"/proc/{function.sandboxes[0].pid}/status").read_text()
        measured["memory"] = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    return measured


def invoke(function, path, body, count):
    """Returns the time from handing over the event to the answer."""
    answer = function.runtime.invoke(request(path, body))
    assert answer and answer["statusCode"] == 200, f"{answer}\n{function.log.read_text()}"
    replies = json.loads(answer["body"])
    assert json.dumps(replies).count('"result"') == count and "value" in answer["body"], answer
    return function.runtime.took * 1000


def zipped(program, folder):
    """Returns the size in MB of what is deployed. Python's runtime client and interpreter are Lambda's own."""
    archive = folder / "function.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        if program == "front door":
            files.write(BINARY, "bootstrap")
        else:
            files.write(PROJECT / "benches/python/front_door.py", "front_door.py")
            (package,) = PYTHON.parent.parent.glob("lib/*/site-packages/redis")
            for path in package.rglob("*.py"):
                files.write(path, path.relative_to(package.parent))
    return archive.stat().st_size / 1_000_000


def measure_nothing(command, settings, folder):
    """Returns the time of a warm invocation of a function that does nothing."""
    with Function(command, settings, folder / "nothing.log") as function:
        took = []
        for _ in range(WARM):
            assert function.runtime.invoke(request("/", ["GET", "key"])), function.log.read_text()
            took.append(function.runtime.took * 1000)
    return statistics.median(took)


def built_bare():
    """Builds front-door/benches/bare.rs, and returns where it is."""
    command = ["cargo", "bench", "--quiet", "--locked", "--package", "front-door", "--bench", "bare", "--no-run"]
    said = subprocess.run([*command, "--message-format", "json"], cwd=PROJECT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    messages = map(json.loads, said.stdout.splitlines())
    (path,) = [message["executable"] for message in messages if message.get("target", {}).get("kind") == ["bench"]]
    return path


def measure_client(bare, settings):
    said = subprocess.run([bare], env={**os.environ, **settings}, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def table(medians, bound):
    own, other = (medians[program] for program in PROGRAMS)
    lines = ["| | unit | front door | Python | share | of the bound |", "| --- | --- | --- | --- | --- | --- |"]
    for key, name in ROWS.items():
        of_bound = f"{own[key] / bound[key]:.2f}" if key in bound else ""
        share = f"{own[key] / other[key]:.2f}"
        lines.append(f"| {name} | {UNITS[key]} | {own[key]:.2f} | {other[key]:.2f} | {share} | {of_bound} |")
    return "\n".join(lines)


def main():
    require_programs()
    with tempfile.TemporaryDirectory() as name, Stack(pathlib.Path(name)) as stack:
        cache, folder = Cache(stack), pathlib.Path(name)
        cache.cli("set", "key", "value" * 20)
        with serving(cache.secrets_manager()) as port:
            settings = variables(cache, port)
            bare = built_bare()
            runs, clients = {program: [] for program in PROGRAMS}, []
            for _ in range(RUNS):
                for program in PROGRAMS:
                    runs[program].append(measure(program, settings, folder))
                for program, command in zip(PROGRAMS, ([bare], PYTHON_NOTHING)):
                    runs[program][-1]["nothing"] = measure_nothing(command, settings, folder)
                clients.append(measure_client(bare, settings))
        medians = {
            program: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
            for program, measured in runs.items()
        }
        for program in PROGRAMS:
            medians[program]["zip"] = zipped(program, folder)
    nothing = medians["front door"]["nothing"]
    bound = {key: nothing + statistics.median(client[key] for client in clients) for key in clients[0]}
    text = table(medians, bound)
    print(text)
    if sys.argv[1:] == ["--document"]:
        page = PAGE.read_text()
        before, _ = page.split(MARK)
        PAGE.write_text(f"{before}{MARK}\n{text}\n")


if __name__ == "__main__":
    main()
