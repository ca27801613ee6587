"""Plays failovers of a cache behind a load balancer while clients write through it, and measures how long each is without
a successful write: real Redis nodes, HAProxy as the load balancer's data plane, and the real function, which follows the
name. Prints a table, and writes what happened to target/e2e as JSON."""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import redis

from snippets import PROJECT, snippets
from stack import CACHE, HERE, PASSWORD, PORT, Stack, require_programs
from timeline import MODES, draw

STAGE = PROJECT / "target" / "debug" / "examples" / "stage"
DRILL = PROJECT / "target" / "debug" / "drill"
# The load balancer's times, the delay and the schedule's period are divided by this factor.
# Polling reconciles once a second instead of every five.
FACTOR = 10
PERIOD = 60 / FACTOR
REGISTRATION_LAG = 90 / FACTOR
# The time until a deregistered target gets no new connections any more.
DEREGISTRATION_LAG = 10 / FACTOR
# The TTL of the endpoint, in seconds.
TTL = 5
# The time between two writes of a client, and the time between two looks at the old node.
PAUSE = 0.05
WATCHED_EVERY = 0.1
# Several failovers are played at once, since a play mostly waits.
PLAYED_AT_ONCE = 3
# The slowest play is a sample that needs three runs, and then drains.
MOVED_WITHIN = 120
# The time until a client that stays on the demoted node is given up. Its connection never ends by itself.
BACK_WITHIN = 10
# The longest wait of a client before it connects again, and the time that a slow machine takes for itself.
RECONNECTED_WITHIN = 10
SLACK = 2
# The name of a connection that looks at a node past the load balancer. The drill's connection has it, too.
WATCHER = "drill"
# The time without a failover, before it and after it.
CALM = 3
# The drill may be off by this many seconds: it looks at the name every second, at the targets every two, and each look
# takes a while.
DRILL_WITHIN = 4
WRITERS = {"redis-py": "sync", "redis-py asyncio": "asyncio", "Django": "django", "ioredis": "ioredis"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """The failover to play."""

    # The mode is one of MODES.
    mode: str
    # The failover is planned or a crash.
    failover: str
    is_terminated: bool
    # The delay in seconds, before it is divided.
    delay: int

    def __str__(self):
        ending = "ended" if self.is_terminated else "kept"
        return f"{MODES[self.mode]}, {self.failover}, connections {ending}, delay {self.delay} s"

    @property
    def variables(self):
        is_polling = self.mode == "polling"
        # The window fills the period, as 55 s fill a minute.
        return {"SCHEDULE_POLL_SECONDS": str(round(PERIOD) - 1), "POLL_INTERVAL_SECONDS": "1"} if is_polling else {}


# Everything after this mark in the documentation's page is what a run has written.
MARK = '<!-- make e2e E2E="--all --document" writes what follows -->'
TELLING = [
    Cell("schedule", "planned", True, 120),
    Cell("schedule", "planned", True, 30),
    Cell("polling", "crash", True, 120),
    Cell("notification", "planned", True, 120),
    Cell("schedule", "planned", False, 120),
    Cell("sample", "planned", True, 120),
]
ALL = [
    Cell(mode, failover, is_terminated, delay)
    for mode in MODES
    for failover in ("planned", "crash")
    for is_terminated in (True, False)
    for delay in (30, 120)
]


def listen(process, into):
    """Hands on each line of JSON that a process prints."""

    def read():
        for line in process.stdout:
            into(json.loads(line))

    threading.Thread(target=read, daemon=True).start()


class Play:
    def __init__(self, cell, stack):
        self.cell, self.stack = cell, stack
        # The events of targets and invocations, in order.
        self.events = []
        self.writes = {name: [] for name in WRITERS}
        # The times at which the old node had a connection through the load balancer.
        self.seen_on_old = []
        self.states = {}
        # The variables of the function, which the stage prints.
        self.variables = None

    def run(self):
        """Plays the failover, and returns its record."""
        stack = self.stack
        nodes = {"a": stack.start_node("a", CACHE), "b": stack.start_node("b", CACHE, primary="a")}
        stack.start_haproxy({"nlb": ["a", "b"]})
        self.start_stage()
        self.wait_until(lambda: self.states.get(stack.node("a")) == "healthy")
        self.start_writers()
        drill = self.start_drill()
        self.wait_until(lambda: all(any(w["outcome"] == "written" for w in writes) for writes in self.writes.values()))
        is_over = threading.Event()
        threads = [threading.Thread(target=each, args=(is_over,)) for each in (self.keep_schedule, self.watch_old_node)]
        for thread in threads:
            thread.start()
        try:
            # The failover comes midway between two invocations.
            time.sleep(CALM + PERIOD / 2 - CALM % PERIOD)
            failed_at, promoted_at = self.fail_over(nodes)
            self.tell("point " + stack.node("b"))
            if self.cell.mode == "notification":
                self.tell("notify")
            self.wait_until(self.has_moved, MOVED_WITHIN)
            self.wait_until(self.is_everybody_back, BACK_WITHIN, must=False)
            time.sleep(CALM)
            drilled = self.end_drill(drill)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        return self.record(failed_at, promoted_at) | {"drill": drilled}

    def fail_over(self, nodes):
        """Fails over. Returns when that began, and when the other node was the primary."""
        failed_at = time.time()
        if self.cell.failover == "crash":
            nodes["a"].kill()
            with self.direct("b") as new:
                new.execute_command("REPLICAOF", "NO", "ONE")
            return failed_at, time.time()
        with self.direct("a") as old:
            old.execute_command("FAILOVER")
        self.wait_until(self.is_promoted)
        return failed_at, time.time()

    def start_stage(self):
        setting = {
            "address": self.stack.node("a"),
            "ttl": TTL,
            "registrationLag": REGISTRATION_LAG,
            "deregistrationDelay": self.cell.delay / FACTOR,
            "isTerminated": self.cell.is_terminated,
            "variables": self.cell.variables,
        }
        self.stage = self.stack.start(
            "stage", [STAGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True, bufsize=1
        )
        self.tell(json.dumps(setting))
        listen(self.stage, self.follow)

    def start_drill(self):
        """Starts the drill as somebody points it at a deployment."""
        of_function = self.variables
        command = [
            DRILL, "--json", "--endpoint", of_function["ENDPOINTS"], "--server-name", CACHE,
            "--load-balancer", self.stack.balancer("nlb"), "--target-group-arn", of_function["TARGET_GROUP_ARNS"],
            "--dns-server", of_function["DNS_SERVERS"],
        ]  # fmt: skip
        aws = {name: value for name, value in of_function.items() if name.startswith("AWS_")}
        environment = self.stack.environment("nlb", PASSWORD) | aws
        return self.stack.start("drill", command, stdout=subprocess.PIPE, stderr=None, text=True, env=environment)

    def end_drill(self, drill):
        """Returns the drill's record. The drill ends by itself once the failover is over for it, which never happens
        if connections are kept."""
        try:
            said, _ = drill.communicate(timeout=DRILL_WITHIN + CALM)
        except subprocess.TimeoutExpired:
            drill.send_signal(signal.SIGINT)
            said, _ = drill.communicate()
        return json.loads(said) | {"exitCode": drill.returncode}

    def tell(self, line):
        self.stage.stdin.write(line + "\n")

    def follow(self, event):
        """Makes the load balancer do what its target group says."""
        self.events.append(event)
        if event["what"] == "served":
            self.variables = event["variables"]
        if event["what"] != "target":
            return
        target, state = event["target"], event["state"]
        self.states[target] = state
        node = {self.stack.node(node): node for node in self.stack.nodes}[target]
        if state == "draining":
            threading.Timer(DEREGISTRATION_LAG, self.lead).start()
        elif state == "gone":
            self.lead()
            if self.cell.is_terminated:
                self.stack.haproxy(f"shutdown sessions server nlb/{node}")
        else:
            self.lead()

    def lead(self):
        """Sends new connections to the healthy targets, or to the unhealthy ones if there is no healthy one. The
        data plane does not know an initial target yet."""
        states = {node: self.states.get(self.stack.node(node), "gone") for node in self.stack.nodes}
        chosen = [node for node, state in states.items() if state == "healthy"]
        chosen = chosen or [node for node, state in states.items() if state == "unhealthy"]
        for node in self.stack.nodes:
            self.stack.haproxy(f"set server nlb/{node} state {'ready' if node in chosen else 'maint'}")

    def start_writers(self):
        environment = self.stack.environment("nlb", PASSWORD) | {"PAUSE_SECONDS": str(PAUSE)}
        for name, kind in WRITERS.items():
            snippet = snippets()[name]
            if kind == "ioredis":
                command = self.stack.node_command(kind, snippet + (HERE / "ioredis_writes.js").read_text())
            else:
                command = [sys.executable, HERE / "python_client.py", kind, str(PAUSE)]
            text = self.stack.folder / kind
            text.write_text(snippet)
            options = {"stdin": open(text), "stdout": subprocess.PIPE, "stderr": None, "text": True, "env": environment}
            writer = self.stack.start(kind, command, **options)
            listen(writer, self.writes[name].append)

    def keep_schedule(self, is_over):
        command = "sample" if self.cell.mode == "sample" else "schedule"
        while True:
            self.tell(command)
            if is_over.wait(PERIOD):
                return

    def watch_old_node(self, is_over):
        with self.direct("a") as old:
            while not is_over.wait(WATCHED_EVERY):
                with contextlib.suppress(redis.RedisError, OSError):
                    if any(client["name"] != WATCHER for client in old.client_list(_type="normal")):
                        self.seen_on_old.append(time.time())

    def direct(self, node):
        """Returns a client that goes past the load balancer."""
        return redis.Redis(
            host=self.stack.node(node), port=PORT, password=PASSWORD, ssl=True, ssl_check_hostname=False,
            ssl_ca_certs=str(self.stack.authority), client_name=WATCHER, retry=None, socket_timeout=5,
        )  # fmt: skip

    def is_promoted(self):
        with self.direct("b") as client:
            return client.role()[0] in ("master", b"master")

    def has_moved(self):
        return [self.states.get(self.stack.node(node)) for node in ("a", "b")] == ["gone", "healthy"]

    def is_everybody_back(self):
        moved_at = max(event["at"] for event in self.events if event["what"] == "target")
        return all(writes[-1]["outcome"] == "written" and writes[-1]["at"] > moved_at for writes in self.writes.values())

    def wait_until(self, is_so, within=60, must=True):
        deadline = time.monotonic() + within
        while not is_so():
            if time.monotonic() > deadline:
                if not must:
                    return
                raise TimeoutError(f"{self.cell}: not within {within} s; {self.events[-5:]}")
            time.sleep(PAUSE)

    def record(self, failed_at, promoted_at):
        """Returns the record, with times in seconds since the failover."""
        new, old = self.stack.node("b"), self.stack.node("a")

        def when(target, state):
            times = [e["at"] - failed_at for e in self.events if e.get("target") == target and e["state"] == state]
            return min(times, default=None)

        # The clients go on, so what they write from here on may come after the look at what is kept.
        writes = {name: list(writes) for name, writes in self.writes.items()}
        with self.direct("b") as primary:
            kept = {key.decode().removeprefix(":1:") for key in primary.scan_iter(count=10_000)}
        return {
            "cell": dataclasses.asdict(self.cell),
            "factor": FACTOR,
            "promoted": promoted_at - failed_at,
            "moved": next(e["at"] for e in self.events if e["what"] == "moved") - failed_at,
            "registered": when(new, "initial"),
            "inService": when(new, "healthy"),
            "deregistered": when(old, "draining"),
            "oldGone": when(old, "gone"),
            "lastOnOld": max(self.seen_on_old, default=failed_at) - failed_at,
            "clients": {name: of_client(WRITERS[name], writes[name], failed_at, promoted_at, kept) for name in WRITERS},
        }


def of_client(kind, writes, failed_at, promoted_at, kept):
    """Returns what became of a client's writes."""
    written = [write for write in writes if write["outcome"] == "written"]
    times = [write["at"] for write in written]
    gaps = [(after - before, after) for before, after in zip(times, times[1:]) if after > failed_at]
    gap, back_at = max(gaps, default=(None, None))
    errors = [write["outcome"] for write in writes if write["outcome"] != "written"]
    lost = [write["at"] for write in written if f"{kind}:{write['number']}" not in kept]
    return {
        "withoutWrite": gap,
        "back": back_at and back_at - failed_at,
        "isBack": writes[-1]["outcome"] == "written",
        "readOnly": sum("read only replica" in error for error in errors),
        "otherErrors": sum("read only replica" not in error for error in errors),
        "errors": sorted({error[:80] for error in errors}),
        "acknowledged": len(written),
        "lostByCache": sum(at <= promoted_at for at in lost),
        "lostByUs": sum(at > promoted_at for at in lost),
    }


def play(cell):
    with tempfile.TemporaryDirectory() as folder, Stack(pathlib.Path(folder)) as stack:
        return Play(cell, stack).run()


def play_at_once(cells):
    """Plays each cell in a process of its own, and returns their records."""
    plays = []
    try:
        for cell in cells:
            print(f"playing: {cell}", flush=True)
            command = [sys.executable, __file__, "--cell", json.dumps(dataclasses.asdict(cell))]
            plays.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        records = [play.communicate()[0] for play in plays]
    finally:
        for each in plays:
            each.terminate()
            each.wait()
    if any(each.returncode for each in plays):
        sys.exit("a failover could not be played")
    return [json.loads(record) for record in records]


def drilled_otherwise(record):
    """Returns what the drill saw at another time, or not at all. Its times count from when it saw the name move."""
    drill = record["drill"]
    # A dead node cannot be asked.
    columns = [column for column in COLUMNS.values() if column != "lastOnOld" or record["cell"]["failover"] == "planned"]
    complaints = []
    for column in columns:
        since = [None if of[column] is None else of[column] - of["moved"] for of in (drill, record)]
        if since[0] is None or abs(since[0] - since[1]) > DRILL_WITHIN:
            complaints.append(f"the drill saw {column} {since[0]} s after the name moved, instead of {since[1]:.1f} s")
    client, other = drill["clients"]["drill"], record["clients"]["redis-py"]
    if client["isBack"] != other["isBack"] or drill["exitCode"] != (0 if client["isBack"] else 1):
        complaints.append(f"the drill's client is back: {client['isBack']}, exit code {drill['exitCode']}")
    elif client["isBack"] and abs(client["withoutWrite"] - other["withoutWrite"]) > DRILL_WITHIN:
        complaints.append(f"the drill wrote nothing for {client['withoutWrite']:.1f} s")
    return complaints


def broken(cell, record):
    """Returns what the cell promises and the record does not keep."""
    clients = record["clients"]
    lost = [f"{name} lost {client['lostByUs']} acknowledged writes" for name, client in clients.items() if client["lostByUs"]]
    lost += drilled_otherwise(record)
    # AWS's sample promises nothing, and a client whose connection is kept stays where it is.
    if cell.mode == "sample" or not cell.is_terminated:
        return lost
    drained = PERIOD + cell.delay / FACTOR + SLACK
    stayed = record["lastOnOld"] - record["moved"]
    possible = max(record["inService"], record["oldGone"])
    late = [
        f"{name} was not back {RECONNECTED_WITHIN} s after it could be"
        for name, client in clients.items()
        if not client["isBack"] or client["back"] > possible + RECONNECTED_WITHIN
    ]
    on_old = [f"somebody stayed on the old node for {stayed:.1f} s"] if stayed > drained else []
    return lost + late + on_old


# The columns of the table, and their keys in the record.
COLUMNS = {
    "name moved": "moved",
    "registered": "registered",
    "in service": "inService",
    "old one drains": "deregistered",
    "old one gone": "oldGone",
    "last connection there": "lastOnOld",
}
EXPLANATION = f"""
In seconds since the failover; for each client how long it could not write, and in brackets how many writes READONLY refused.
The schedule's minute, the 90 s until a registered target is in service, the 10 s in which a deregistered one still gets new
connections, and the delay are divided by {FACTOR}. Polling reconciles once a second and not every five. Nothing else differs."""


def table(records):
    """Writes the records as a table in Markdown."""

    def seconds(value):
        return "none" if value is None or value < 0 else f"{value:.1f}"

    def write_client(client):
        without = seconds(client["withoutWrite"]) if client["isBack"] else "not back"
        return f"{without} ({client['readOnly']})"

    rows = [["Failover", *COLUMNS, *WRITERS]]
    for record in records:
        times = [seconds(record[column]) for column in COLUMNS.values()]
        rows.append([str(Cell(**record["cell"])), *times, *map(write_client, record["clients"].values())])
    rows.insert(1, ["---"] * len(rows[0]))
    acknowledged, by_cache, by_us = (
        sum(client[count] for record in records for client in record["clients"].values())
        for count in ("acknowledged", "lostByCache", "lostByUs")
    )
    lost = (
        f"Of {acknowledged:,} acknowledged writes {by_cache} of those before the promotion were lost, which is the cache's "
        f"replication, and {by_us} of those after it."
    )
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), EXPLANATION, "", lost])


def document(records):
    """Draws the documentation's picture of the telling cells again, and writes its table again."""
    telling = [record for record in records if Cell(**record["cell"]) in TELLING]
    draw(telling, PROJECT / "docs" / "failover.svg")
    page = PROJECT / "docs" / "timing-and-cost.md"
    before, _, _ = page.read_text().partition(MARK)
    page.write_text(f"{before}{MARK}\n\n{table(records)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every cell of the table, not the telling ones")
    parser.add_argument("--only", type=int, help="one cell, by its place")
    parser.add_argument("--document", action="store_true", help="draws the picture and the table of docs again")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    require_programs()
    if arguments.cell:
        print(json.dumps(play(Cell(**json.loads(arguments.cell)))))
        return 0
    # The plays end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    cells = ALL if arguments.all else TELLING
    if arguments.only is not None:
        cells = [cells[arguments.only]]
    records = []
    for first in range(0, len(cells), PLAYED_AT_ONCE):
        records += play_at_once(cells[first : first + PLAYED_AT_ONCE])
    complaints = [f"BROKEN  {cell}: {what}" for cell, record in zip(cells, records) for what in broken(cell, record)]
    results = PROJECT / "target" / "e2e" / "failover.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(records, indent=1) + "\n")
    print(table(records))
    draw(records, results.with_suffix(".svg"))
    if arguments.document:
        document(records)
    print("\n".join(complaints or [f"{len(records)} failovers as promised; drawn in {results.with_suffix('.svg')}"]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
