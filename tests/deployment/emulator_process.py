"""Starts the AWS emulator and a DNS server on free ports of loopback, and ends them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from botocore.exceptions import ClientError
from dnslib.server import BaseResolver, DNSLogger, DNSServer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
REGION = "eu-west-1"
ACCOUNT = "123456789012"


def free_port() -> int:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        return tcp.getsockname()[1]


@contextmanager
def emulator() -> Iterator[str]:
    """The address of a running emulator that keeps everything it writes in a folder that is deleted."""
    port = free_port()
    url = f"http://localhost:{port}"
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "log"), "w+") as log:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "TMPDIR": folder,
            "S3_DATA_DIR": f"{folder}/s3",
            "STATE_DIR": f"{folder}/state",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "AWS_ENDPOINT_URL": url,
            "AUTH": "true",
            "LAMBDA_EXECUTOR": "local",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }
        command = [sys.executable, HERE / "emulator.py"]
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: urllib.request.urlopen(f"{url}/_ministack/health").status == 200, "the emulator", 60)
            yield url
        except BaseException:
            log.seek(0)
            print("".join(log.readlines()[-60:]), f"exit code {process.poll()}", file=sys.stderr)
            raise
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """With the functions that it still runs, which it leaves behind."""
    process.terminate()
    try:
        process.wait(20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def dns_server(zone: BaseResolver) -> Iterator[str]:
    """The address of a running server of the zone."""
    port = free_port()
    server = DNSServer(zone, address="127.0.0.1", port=port, logger=DNSLogger("-request,-reply"))
    server.start_thread()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop()
        server.server.server_close()


def use(url: str) -> None:
    """Points boto3 and the SAM CLI at the emulator, whatever the environment says."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_DEFAULT_REGION=REGION,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        SAM_CLI_TELEMETRY="0",
    )


def wait_for(is_there: Callable[[], bool], what: str, seconds: float) -> float:
    """How long it took."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        try:
            if is_there():
                return time.monotonic() - begin
        except (OSError, ClientError):
            pass
        time.sleep(0.25)
    raise AssertionError(f"{what} is not there after {seconds} s")


# Who ends the test ends what it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

BEGIN = time.monotonic()


def step(text: str) -> None:
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)
