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
from itertools import count
from pathlib import Path

from botocore.exceptions import ClientError
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
REGION = "eu-west-1"
ACCOUNT = "123456789012"
ENDPOINT = "redis.example.com"


def free_port() -> int:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        return tcp.getsockname()[1]


@contextmanager
def emulator(zone: BaseResolver) -> Iterator[str]:
    """Yields the address of a DNS server of the zone. Beside it runs an emulator that enforces IAM, and that
    emulator.py has taught what it lacks."""
    command = [sys.executable, HERE / "emulator.py"]
    with ministack(command, AUTH="true", LAMBDA_EXECUTOR="local") as url, dns_server(zone) as address:
        use(url)
        step("an emulator is up, and enforces IAM")
        yield address


@contextmanager
def ministack(command: list, **variables: str) -> Iterator[str]:
    """Yields the address of a running emulator, which keeps everything that it writes in a folder that is deleted."""
    port = free_port()
    url = f"http://localhost:{port}"
    with tempfile.TemporaryDirectory() as folder:
        environment = {
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
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            **variables,
        }
        with running(command, environment, Path(folder, "log"), lambda: is_up(f"{url}/_ministack/health")):
            yield url


@contextmanager
def running(command: list, environment: dict, log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Starts the process, waits until it is ready, and ends it afterwards. If something fails meanwhile, it prints
    what the process wrote last."""
    with open(log, "w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(is_ready, Path(command[0]).name, 60)
            yield
        except BaseException:
            output.seek(0)
            print("".join(output.readlines()[-60:]), f"exit code {process.poll()}", file=sys.stderr)
            raise
        finally:
            end(process)


def is_up(url: str) -> bool:
    return urllib.request.urlopen(url).status == 200


def end(process: subprocess.Popen) -> None:
    """Ends the process and the functions that it still runs, which it would leave behind."""
    process.terminate()
    try:
        process.wait(20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Zone(BaseResolver):
    """A zone in which the endpoint of every cache has one address, and its reader endpoint has one replica's at a
    time. No other name exists."""

    address = "10.0.1.7"
    replicas = ("10.0.2.9", "10.0.3.3")

    def __init__(self) -> None:
        self.turn = count()

    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        reply = request.reply()
        role = str(request.q.qname).lower().split(".")[0]
        if role not in ("redis", "master", "replica"):
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            address = self.replicas[next(self.turn) % len(self.replicas)] if role == "replica" else self.address
            reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=1, rdata=A(address)))
        return reply


@contextmanager
def dns_server(zone: BaseResolver) -> Iterator[str]:
    """Yields the address of a running server of the zone."""
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
    """Waits until it is there, and returns how long that took."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        try:
            if is_there():
                return time.monotonic() - begin
        except (OSError, ClientError):
            pass
        time.sleep(0.25)
    raise AssertionError(f"{what} is not there after {seconds} s")


# A signal that ends the test also ends what the test has started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

BEGIN = time.monotonic()


def step(text: str) -> None:
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)
