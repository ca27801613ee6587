"""Runs the function as Lambda does, under the runtime interface emulator of the SAM CLI."""

import json
import os
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator_process import REGION, ROOT, free_port, running, wait_for

BOOTSTRAP = os.environ.get("FUNCTION_BINARY", ROOT / ".aws-sam/build/Function/bootstrap")
[RUNTIME] = (ROOT / ".venv").glob("lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64")
INVOCATIONS = "2015-03-31/functions/function/invocations"
SCHEDULE = (ROOT / "events/schedule.json").read_bytes()


class Sandbox:
    """One process of the function, which answers several events."""

    def __init__(self, address: str, output: Path) -> None:
        self.address = address
        self.output = output
        self.invocations = 0

    def invoke(self) -> dict:
        """Returns what the function answers to its schedule."""
        answer = json.load(urllib.request.urlopen(f"http://{self.address}/{INVOCATIONS}", SCHEDULE, timeout=75))
        self.invocations += 1
        wait_for(lambda: self.results() == self.invocations, f"in the log the result of {answer}", 10)
        return answer

    def results(self) -> int:
        return sum(line["message"] == "result" for line in self.log())

    def log(self) -> list[dict]:
        """Returns the function's own lines, without the last one while it is not whole."""
        lines = self.output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]


@contextmanager
def sandbox(name: str, **variables: str) -> Iterator[Sandbox]:
    """Yields a sandbox whose function has this name, these variables and those that Lambda sets."""
    address, runtime_api = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = [RUNTIME, "--runtime-interface-emulator-address", address, "--runtime-api-address", runtime_api]
    environment = {
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "75",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
        **variables,
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        with running([*command, BOOTSTRAP], environment, output, lambda: listens(address)):
            yield Sandbox(address, output)


def listens(address: str) -> bool:
    host, port = address.split(":")
    socket.create_connection((host, int(port))).close()
    return True
