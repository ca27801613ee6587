"""Runs the SAM CLI with a process as the container: the runtime interface emulator of its wheel, on loopback.

Everything else is the SAM CLI's own code: how it reads the command, samconfig.toml and the template, what it gives the
container, how it invokes the function, and what it prints.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import samcli
from samcli.cli.main import cli
from samcli.local.docker.container_client_factory import ContainerClientFactory
from samcli.local.docker.utils import get_rapid_name

RAPID = Path(samcli.__file__).parent / "local/rapid"
# The variables that lead the function to the stand-ins. The SAM CLI passes on no variable that the template lacks.
ADDED = ("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", "AWS_ENDPOINT_URL_CLOUDWATCH")


class Container:
    """This is what docker-py calls a container."""

    def __init__(self, image: str, **options) -> None:
        self.id = image
        (self.code,) = [folder for folder, mount in options["volumes"].items() if mount["bind"] == "/var/task"]
        self.environment = options["environment"]
        self.emulator, *self.arguments = options["entrypoint"]
        assert self.emulator == "/var/rapid/aws-lambda-rie" and not options["command"], options
        self.address = "{}:{}".format(*options["ports"]["8080"])
        self.process = None

    @property
    def status(self) -> str:
        return "created" if self.process is None or self.process.poll() is not None else "running"

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            runtime_api = "{}:{}".format(*probe.getsockname())
        command = [
            RAPID / get_rapid_name(self.id.rpartition("-")[2]), *self.arguments,
            "--runtime-interface-emulator-address", self.address, "--runtime-api-address", runtime_api, "./bootstrap",
        ]  # fmt: skip
        added = {name: os.environ[name] for name in ADDED}
        self.process = subprocess.Popen(
            command,
            cwd=self.code,
            env=self.environment | added,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def attach(self, **_) -> Iterator[tuple[bytes, None]]:
        for line in self.process.stdout:
            yield line, None

    def remove(self, **_) -> None:
        """Ends the function before the emulator, which would leave it behind."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        functions = " ".join(children.read_text() for children in threads).split()
        for function in functions:
            with suppress(ProcessLookupError):
                os.kill(int(function), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


class Engine:
    """This is what docker-py calls a client. It has every image, each of them up to date."""

    def __init__(self) -> None:
        image = SimpleNamespace(attrs={"Config": {}, "RepoDigests": ["@"], "Descriptor": {"digest": ""}})
        self.images = SimpleNamespace(get=lambda _: image, get_registry_data=lambda _: image)
        self.containers = self
        self.api = SimpleNamespace(inspect_container=lambda _: {})
        # The events of images, of which there are none.
        self.events = lambda **_: iter(())

    def create(self, image: str, **options) -> Container:
        self.container = Container(image, **options)
        return self.container

    def get(self, _: str) -> Container:
        return self.container


if __name__ == "__main__":
    # A signal that ends this process also ends the function.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    engine = Engine()
    ContainerClientFactory.create_client = staticmethod(lambda: engine)
    cli(prog_name="sam")
