"""Nodes of Redis with TLS and AUTH, and HAProxy before them as a load balancer that passes bytes on.

Everything listens on port 6379, as the snippets have it, at addresses of one free network on loopback."""

import contextlib
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time

import trustme

NLB = "redis-0123456789abcdef.elb.eu-west-1.amazonaws.com"
CACHE = "master.redis.abc123.euw1.cache.amazonaws.com"
OTHER_CACHE = "master.other.abc123.euw1.cache.amazonaws.com"
PORT = 6379
PASSWORD = "the password of the cache"
# In seconds, on a slow machine.
UP_WITHIN = 30
NEEDED = {"redis-server": "redis-server", "redis-cli": "redis-tools", "haproxy": "haproxy", "openssl": "openssl"}

HAPROXY = """
global
    noreuseport
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""
LISTEN = """
listen {name}
    bind {balancer}:{port}
    server node {node}:{port}
"""


def require_programs():
    """Ends the process if a program is missing: nothing is left out in silence."""
    packages = sorted({package for program, package in NEEDED.items() if not path_of(program)})
    if packages:
        sys.exit(f"Missing: {', '.join(packages)}. On Debian: apt-get install {' '.join(packages)}")


def path_of(program):
    # Debian has haproxy where only root looks.
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")


def free_network():
    """Three bytes of addresses on loopback, at which nobody listens on the port."""
    for _ in range(100):
        network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((f"{network}.1", PORT))
            return network
    sys.exit("no free addresses on loopback: this needs Linux, where all of 127.0.0.0/8 is local")


class Stack:
    """Started by `with`; what it started has ended after it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.network = free_network()
        self.processes = []
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        for name in (CACHE, OTHER_CACHE):
            certificate = authority.issue_cert(name)
            certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
        # By name: where the node is, and where the load balancer that leads to it.
        self.nodes = {"primary": 1, "replica": 2, "other": 3}

    def node(self, name):
        return f"{self.network}.{self.nodes[name]}"

    def balancer(self, name):
        return f"{self.network}.{100 + self.nodes[name]}"

    def __enter__(self):
        try:
            self.start_node("primary", CACHE)
            self.start_node("replica", CACHE, primary="primary")
            self.start_node("other", OTHER_CACHE)
            self.start_haproxy()
            for name in self.nodes:
                self.wait_until_up(self.balancer(name))
            self.wait_until_replicating()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(UP_WITHIN)

    def start(self, name, command):
        with open(self.folder / f"{name}.log", "w") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))

    def start_node(self, name, certificate, primary=None):
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
            "dir": data,
        }
        if primary:
            settings["replicaof"] = f"{self.node(primary)} {PORT}"
        configuration = data / "redis.conf"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.start(name, [path_of("redis-server"), configuration])

    def start_haproxy(self):
        configuration = self.folder / "haproxy.cfg"
        listens = [LISTEN.format(name=name, balancer=self.balancer(name), node=self.node(name), port=PORT) for name in self.nodes]
        configuration.write_text(HAPROXY + "".join(listens))
        self.start("haproxy", [path_of("haproxy"), "-f", configuration])

    def wait_until_up(self, balancer):
        self.wait_for(lambda: "PONG" in self.redis_cli(balancer, "ping"), f"{balancer} does not serve")

    def wait_until_replicating(self):
        is_connected = lambda: "connected" in self.redis_cli(self.balancer("replica"), "role")
        self.wait_for(is_connected, "the replica does not follow")

    def redis_cli(self, host, *command):
        tls = ["--tls", "--cacert", str(self.authority), "--no-auth-warning", "-a", PASSWORD]
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
