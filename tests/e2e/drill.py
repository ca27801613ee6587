"""Tries on real nodes what the drill finds with --once: each cause of a client that cannot work, and nothing if it
can. Prints what the drill says, and after how long."""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import socket
import subprocess
import sys
import time

import dnslib
import dnslib.server
import trustme

from snippets import PROJECT
from stack import CACHE, NLB, OTHER_CACHE, PASSWORD, PORT, caches, try_at_once

DRILL = PROJECT / "target" / "debug" / "drill"
ENDED_WITHIN = 60
SERVERLESS = "redis-abc123.serverless.euw1.cache.amazonaws.com"
MISSING = "missing.abc123.euw1.cache.amazonaws.com"
ZONE = f"""
{CACHE} 5 IN A 10.0.1.7
{SERVERLESS} 5 IN A 10.0.1.7
{SERVERLESS} 5 IN A 10.0.2.9
"""
# This relay does not answer a client that does not begin with TLS, as is reported of ElastiCache Serverless.
SILENT_WITHOUT_TLS = """
frontend serverless
    bind {network}.253:{port}
    tcp-request inspect-delay 60s
    tcp-request content accept if {{ req.len gt 0 }}
    use_backend silent unless {{ req.ssl_hello_type 1 }}
    default_backend primary
backend primary
    server primary {node}:{port}
backend silent
    server silent {network}.252:{port}
"""


@dataclasses.dataclass
class Case:
    what: str
    # The ids of the findings.
    expected: list[str]
    # The name of a node, or an address.
    load_balancer: str
    arguments: tuple[str, ...] = ()
    # Each finding has this text in what is seen or in the mend.
    says: str = ""
    endpoint: str = CACHE
    password: str | None = PASSWORD
    authority: pathlib.Path | None = None


def cases(stack, other_authority):
    plain = ("--plaintext",)
    return [
        Case("sound", [], "primary"),
        Case("nobody listens", ["refused"], f"{stack.network}.250"),
        Case("packets are dropped", ["silent"], f"{stack.network}.251", says="the connection in 3 s"),
        Case("answers nothing at all", ["silent"], f"{stack.network}.252", says="the TLS handshake in 3 s"),
        Case("answers nothing, no TLS", ["silent"], f"{stack.network}.252", plain, says="a command in 3 s"),
        Case("no TLS, and the cache closes", ["tls-required"], "primary", plain, says="rediss://"),
        Case("no TLS, and the cache is silent", ["tls-required"], f"{stack.network}.253", plain, says="a command in 3 s"),
        Case("no TLS, and the certificate expired", ["tls-required"], "expired", plain, says="its certificate"),
        Case("TLS, and the cache has none", ["plaintext-answered"], "plain", says="PONG"),
        Case("no TLS, as the cache", [], "plain", plain, password=None),
        Case("no server name", ["certificate-name"], "primary", ("--server-name", NLB), says=f"server name to {CACHE}"),
        Case("another cache", ["certificate-name"], "other", says=f"certificate is for {OTHER_CACHE}"),
        Case("an unknown authority", ["certificate-authority"], "primary", authority=other_authority),
        Case("an expired certificate", ["certificate-invalid"], "expired", says="expired"),
        Case("a certificate signed by itself", ["certificate-authority"], "self-signed"),
        Case("no password", ["auth-required"], "primary", password=None),
        Case("a wrong password", ["auth-wrong"], "primary", password="another"),
        Case("a password too many", ["auth-wrong"], "plain", plain, says="Give no password"),
        Case("a user who does not exist", ["auth-wrong"], "primary", ("--user", "nobody")),
        Case("a user without rights", ["not-permitted"], "primary", ("--user", "powerless"), says="powerless: NOPERM"),
        Case("a user who only reads", ["not-permitted"], "primary", ("--user", "reader"), says="reader: NOPERM"),
        Case("a user of the drill", [], "primary", ("--user", "driller")),
        Case("a demoted node", ["readonly"], "replica"),
        Case("cluster mode, a key of this shard", ["moved"], "shard-1", says="2 shards in cluster mode"),
        Case("cluster mode, a key of another", ["moved"], "shard-2", says="2 shards in cluster mode"),
        Case("a demoted node in cluster mode", ["readonly"], "one-replica", says="MOVED"),
        Case("several addresses", ["several-addresses"], "primary", ("--server-name", CACHE), endpoint=SERVERLESS),
        Case("no such endpoint", ["endpoint-unresolved"], "primary", ("--server-name", CACHE), endpoint=MISSING),
        Case("no such load balancer", ["load-balancer-unresolved"], "redis.invalid"),
    ]


class Runner:
    def __init__(self, stack, dns):
        self.stack, self.dns = stack, dns

    def run(self, case):
        """Returns the findings, the exit code, and after how many seconds they came."""
        is_node = case.load_balancer in self.stack.nodes
        load_balancer = self.stack.node(case.load_balancer) if is_node else case.load_balancer
        command = [
            DRILL, "--once", "--json", "--endpoint", case.endpoint, "--load-balancer", load_balancer,
            "--dns-server", self.dns, *case.arguments,
        ]  # fmt: skip
        environment = self.stack.environment("none", case.password)
        environment["SSL_CERT_FILE"] = str(case.authority or self.stack.authority)
        begin = time.monotonic()
        completed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=ENDED_WITHIN)
        seconds = time.monotonic() - begin
        if not completed.stdout:
            sys.exit(f"{case.what}: {completed.stderr}")
        return json.loads(completed.stdout)["findings"], completed.returncode, seconds


def complaint(case, findings, exit_code):
    ids = [finding["id"] for finding in findings]
    if ids != case.expected:
        return f"instead of {case.expected}"
    if not all(case.says in finding["seen"] + finding["mend"] for finding in findings):
        return f"nothing says {case.says!r}"
    is_sound = all(finding["severity"] != "error" for finding in findings)
    return f"exit code {exit_code}" if exit_code != (0 if is_sound else 1) else None


def ends_as_documented():
    """Returns true if the drill ends as documented when it has seen nothing."""
    run = lambda *arguments: subprocess.run([DRILL, *arguments], capture_output=True, text=True, timeout=ENDED_WITHIN)
    missing, unknown, usage = run("--once"), run("--twice"), run("--help")
    without_password = run("--once", "--endpoint", CACHE, "--load-balancer", "127.0.0.1", "--user", "somebody")
    return (
        (missing.returncode, unknown.returncode, usage.returncode, without_password.returncode) == (2, 2, 0, 2)
        and "--endpoint is missing" in missing.stderr
        and "drill --endpoint NAME --load-balancer NAME" in usage.stdout
    )


def serve_dns(exits):
    """Starts a DNS server, and returns its address."""
    zone = dnslib.server.BaseResolver()
    records = dnslib.RR.fromZone(ZONE)

    def resolve(request, _):
        reply = request.reply()
        named = [record for record in records if record.rname == request.q.qname]
        if not named:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        for record in named:
            if record.rtype == request.q.qtype:
                reply.add_answer(record)
        return reply

    zone.resolve = resolve
    silent = dnslib.server.DNSLogger(log="-request,-reply,-truncated")
    server = dnslib.server.DNSServer(zone, address="127.0.0.1", port=0, logger=silent)
    server.start_thread()
    exits.callback(server.stop)
    return "{}:{}".format(*server.server.server_address)


def listen(exits, address, backlog):
    """Listens, and answers nothing."""
    listener = exits.enter_context(socket.socket())
    listener.bind((address, PORT))
    listener.listen(backlog)
    return listener


def read_all(listener):
    """Returns everything that was sent by those who connected and have gone."""
    listener.setblocking(False)
    received = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            with connection:
                received += connection.recv(65536)
    return received


def drop_packets(exits, address):
    """Fills the queue, so that nobody who connects afterwards is answered."""
    listen(exits, address, 0)
    for _ in range(2):
        waiting = exits.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex((address, PORT))


def start_in_cluster_mode(stack, *names):
    """Starts nodes that are in no cluster yet, and returns their addresses."""
    for name in names:
        stack.start_node(name, CACHE, cluster_enabled="yes", tls_cluster="yes", cluster_announce_ip=stack.node(name))
    return map(stack.node, names)


def wait_for_cluster(stack, node):
    stack.wait_for(lambda: "cluster_state:ok" in stack.redis_cli(node, "cluster", "info"), f"{node} is in no cluster")


def start_cluster(stack):
    """Starts a cluster of two shards, each with one node."""
    first, second = start_in_cluster_mode(stack, "shard-1", "shard-2")
    stack.redis_cli(first, "cluster", "addslotsrange", "0", "8191")
    stack.redis_cli(second, "cluster", "addslotsrange", "8192", "16383")
    stack.redis_cli(first, "cluster", "meet", second, str(PORT))
    for shard in (first, second):
        wait_for_cluster(stack, shard)


def add_users(stack):
    """Adds users with the password of the cache."""
    for user, rules in {"powerless": "", "reader": "~* +@read", "driller": "~drill:* +set +exists"}.items():
        rights = ["on", f">{PASSWORD}", "-@all", *rules.split()]
        assert "OK" in stack.redis_cli(stack.node("primary"), "acl", "setuser", user, *rights)


def start_other_certificates(stack):
    now = datetime.datetime.now(datetime.timezone.utc)
    before = now - datetime.timedelta(days=1)
    stack.issue("expired", CACHE, not_before=before - datetime.timedelta(days=1), not_after=before)
    pem = stack.folder / "self-signed.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cache", "-addext", f"subjectAltName=DNS:{CACHE}"]
    command = ["openssl", "req", "-x509", *options, "-keyout", stack.folder / "key", "-out", pem]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_text((stack.folder / "key").read_text() + pem.read_text())
    for certificate in ("expired", "self-signed"):
        stack.start_node(certificate, certificate)


def start_cluster_of_one(stack):
    """Starts a cluster of one shard, with a replica."""
    primary, replica = start_in_cluster_mode(stack, "one", "one-replica")
    stack.redis_cli(primary, "cluster", "addslotsrange", "0", "16383")
    stack.redis_cli(replica, "cluster", "meet", primary, str(PORT))
    follow = lambda: stack.redis_cli(replica, "cluster", "replicate", stack.redis_cli(primary, "cluster", "myid").strip())
    stack.wait_for(lambda: "OK" in follow(), "the replica does not know its primary")
    wait_for_cluster(stack, replica)


def main():
    with contextlib.ExitStack() as exits:
        stack = exits.enter_context(caches())
        stack.start_node("plain", CACHE, port=PORT, tls_port=0, requirepass='""')
        start_cluster(stack)
        start_cluster_of_one(stack)
        start_other_certificates(stack)
        add_users(stack)
        relay = SILENT_WITHOUT_TLS.format(network=stack.network, port=PORT, node=stack.node("primary"))
        stack.start_relay(f"{stack.network}.253", relay)
        drop_packets(exits, f"{stack.network}.251")
        silent = listen(exits, f"{stack.network}.252", 16)
        other_authority = stack.folder / "other-authority.pem"
        trustme.CA().cert_pem.write_to_path(other_authority)
        tried = cases(stack, other_authority)
        outcomes = try_at_once(Runner(stack, serve_dns(exits)).run, tried)
        heard = read_all(silent)
        sizes = [stack.redis_cli(stack.node(name), "dbsize").strip() for name in ("primary", "shard-1", "shard-2")]
    complaints = 0
    for case, (findings, exit_code, seconds) in zip(tried, outcomes):
        said = [f"{finding['id']}: {finding['seen']}" for finding in findings] or ["nothing"]
        print(f"{case.what:32} {seconds:5.1f} s  {'; '.join(said)}")
        wrong = complaint(case, findings, exit_code)
        if wrong:
            complaints += 1
            print(f"UNEXPECTED, {wrong}")
    if b"PING" not in heard or PASSWORD.encode() in heard:
        complaints += 1
        print("UNEXPECTED, what was sent without TLS to somebody who is no cache")
    if sizes != ["0", "0", "0"]:
        complaints += 1
        print(f"UNEXPECTED, as many keys in the caches: {sizes}")
    if not ends_as_documented():
        complaints += 1
        print("UNEXPECTED, how it ends without its arguments, with a wrong one, or with --help")
    print(f"{len(tried)} looks, {complaints} unexpected")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
