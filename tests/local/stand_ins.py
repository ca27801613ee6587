"""Starts what the function talks to, and makes it reachable from a container."""

import json
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

COMMAND = Path(__file__).parent.parent.parent / "target/debug/examples/world"
ANSWERED_WITHIN = 10


class World:
    """A process with stand-ins of its own. It is used with `with`."""

    def __init__(self, endpoint: str, target_group_arn: str, address: str) -> None:
        self.setting = {"endpoint": endpoint, "targetGroupArn": target_group_arn, "address": address}
        self.seen = []

    def __enter__(self) -> "World":
        self.process = subprocess.Popen([COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        variables = self.ask(json.dumps(self.setting))
        self.aws = variables["AWS_ENDPOINT_URL"].removeprefix("http://")
        self.dns = variables["DNS_SERVERS"]
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")

    def ask(self, line: str) -> dict:
        self.tell(line)
        return json.loads(self.process.stdout.readline())

    def point(self, address: str) -> None:
        self.tell(f"point {address}")

    def saw(self) -> dict:
        """Returns everything that the stand-ins have seen since the beginning."""
        self.seen.append(self.ask("saw"))
        both = self.seen[0] | {"group": self.seen[-1]["group"]}
        for seen in self.seen[1:]:
            both |= {name: both[name] + seen[name] for name in both if name != "group"}
        return both


def address_of(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)


@contextmanager
def reachable_at(host: str, world: World) -> Iterator[World]:
    """Makes the world reachable at another address of this machine, since a container does not reach its loopback."""
    with ExitStack() as stack:
        aws = stack.enter_context(relay(socketserver.ThreadingTCPServer, RelayConnection, host, world.aws))
        dns = stack.enter_context(relay(socketserver.ThreadingUDPServer, RelayDatagram, host, world.dns))
        loopback = world.aws, world.dns
        world.aws, world.dns = aws, dns
        yield world
        world.aws, world.dns = loopback


@contextmanager
def relay(server: type, handler: type, host: str, to: str) -> Iterator[str]:
    with server((host, 0), handler) as relaying:
        relaying.daemon_threads = True
        relaying.to = address_of(to)
        threading.Thread(target=relaying.serve_forever, daemon=True).start()
        yield "{}:{}".format(*relaying.server_address)
        relaying.shutdown()


class RelayConnection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with socket.create_connection(self.server.to) as there:
            back = threading.Thread(target=self.copy, args=(there, self.request), daemon=True)
            back.start()
            self.copy(self.request, there)
            back.join()

    @staticmethod
    def copy(source: socket.socket, to: socket.socket) -> None:
        try:
            while some := source.recv(65536):
                to.sendall(some)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            # The other side has ended.
            pass


class RelayDatagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, here = self.request
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.settimeout(ANSWERED_WITHIN)
            there.sendto(question, self.server.to)
            here.sendto(there.recv(65536), self.client_address)
