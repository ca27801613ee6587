"""Sends every file of events/ to the built function with the commands of docs/deploy.md, and compares what comes back
and what the stand-ins saw with the page.

The function runs in a process (sam.py) and, if a container engine answers, in a container too.
"""

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from subprocess import Popen

from docker.errors import DockerException
from page import CARGO_LAMBDA_INVOKE, ENDPOINT, REGION, ROOT, ROWS, SAM_LOCAL_INVOKE, TARGET_GROUP_ARN
from processes import ENDED_WITHIN, background, free_port, output_of, start, wait_for
from samcli.local.docker.container_client_factory import ContainerClientFactory
from samcli.local.docker.exceptions import ContainerNotReachableException
from samcli.yamlhelper import yaml_dump, yaml_parse
from stand_ins import World, reachable_at

BUILT = ROOT / ".aws-sam/build"
PROGRAMS = Path(sys.executable).parent
SAM_WITHOUT_CONTAINER = [sys.executable, Path(__file__).with_name("sam.py")]
IMAGE = "public.ecr.aws/lambda/provided:al2023-x86_64"
# The SAM CLI finds the way to the container engine and credentials here, but no setting of the user.
FOLDER = tempfile.TemporaryDirectory()
ENVIRONMENT = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("DOCKER_")} | {
    "HOME": FOLDER.name,
    "SAM_CLI_TELEMETRY": "0",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
CALLED_BY_FUNCTION = ("ELASTIC_LOAD_BALANCING_V2", "CLOUDWATCH")
# The function logs this when the container is stopped, since it waits for the next event then.
STOPPED = "the Lambda runtime ended"

OLD, NEW = "10.0.1.7", "10.0.2.9"
# The name moves this many seconds after the first lookup of a window.
MOVED_AFTER = 3
AT_ONCE = 3

GROUP = {
    "targetGroupArn": TARGET_GROUP_ARN,
    "endpoints": [ENDPOINT],
    "desired": [f"{NEW}:6379"],
    "registered": [f"{NEW}:6379"],
    "deregistered": [f"{OLD}:6379"],
    "failover": True,
    "reconciles": 1,
}
REPORT = {"dryRun": False, "targetGroups": [GROUP]}
CHANGES = [f"RegisterTargets {NEW}:6379 Ok", f"DeregisterTargets {OLD}:6379@eu-west-1a Ok"]
# The findings of a target group as it is created, whose target the name has left.
FINDINGS = ["connections-not-terminated", "health-check-slow", "target-foreign"]


@dataclass
class Expected:
    # Each line of the log has this cause.
    cause: str
    answer: dict
    changes: list[str] = field(default_factory=lambda: CHANGES)
    parameters: dict[str, str] = field(default_factory=dict)


ONCE = {"EventPollSeconds": "0"}
EVENTS = {
    "events/dry-run.json": Expected("schedule", REPORT | {"dryRun": True}, []),
    "events/diagnose.json": Expected("diagnose", {"findings": FINDINGS}, []),
    "events/schedule.json": Expected("schedule", REPORT),
    "events/queue.json": Expected("queue", REPORT | {"batchItemFailures": []}, parameters=ONCE),
    "events/notification.json": Expected("notification", REPORT, parameters=ONCE),
    "events/rds.json": Expected("notification", REPORT, parameters=ONCE),
    "events/alarm.json": Expected("notification", REPORT, parameters=ONCE),
    "events/empty.json": Expected("schedule", REPORT),
}
# This event is also played with the template's own EventPollSeconds.
WINDOW = "events/queue.json"


def settled() -> World:
    return World(ENDPOINT, TARGET_GROUP_ARN, OLD)


def endpoints(world: World, *services: str) -> dict[str, str]:
    return {f"AWS_ENDPOINT_URL_{service}": f"http://{world.aws}" for service in services}


def arguments(world: World, event: str, parameters: dict[str, str]) -> list:
    """Returns the words of the page's command with another event and more parameters, which come last."""
    given = [f"{name}={value}" for name, value in {"DnsServers": world.dns, **parameters}.items()]
    words = [*SAM_LOCAL_INVOKE[1:], *given]
    words[words.index("--event") + 1] = event
    return words


def start_sam(world: World, words: list, sam: list = SAM_WITHOUT_CONTAINER, **environment: str) -> Popen:
    # The SAM CLI itself asks STS for the account.
    return start([*sam, *words], ENVIRONMENT | endpoints(world, *CALLED_BY_FUNCTION, "STS") | environment)


def result_and_log(process: Popen) -> tuple[dict, list[dict]]:
    """Reads the result from standard output, and the log from standard error. The exit status must be 0."""
    stdout, stderr = output_of(process)
    log = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert log, stderr
    return json.loads(stdout), log


def check(world: World, expected: Expected, answer: dict, log: Sequence[dict] = ()) -> None:
    if "findings" in answer:
        answer["findings"] = [finding["id"] for finding in answer["findings"]]
    assert answer == expected.answer, answer
    others = [line for line in log if line.get("cause") != expected.cause and line["message"] != STOPPED]
    assert not others, others
    saw = world.saw()
    assert saw["changes"] == expected.changes, saw
    current = [target for target in saw["group"] if not target.endswith(" draining")]
    assert current == [f"{NEW}:6379 initial" if expected.changes else f"{OLD}:6379 healthy"], saw
    # If nothing may change, nothing is published either.
    published = [datum.split() for datum in saw["published"]]
    failovers = [int(value) for dimension, metric, value in published if "Function" in dimension and metric == "Failover"]
    assert sum(failovers) == 1 if expected.changes else published == [], saw
    assert saw["put"] == 0, saw


def is_answered_as_the_page_says(event: str) -> str:
    expected = EVENTS[event]
    with settled() as world:
        world.point(NEW)
        answer, log = result_and_log(start_sam(world, arguments(world, event, expected.parameters)))
        check(world, expected, answer, log)
    return f"{event}: {', '.join(expected.changes) or 'no change'}"


def a_notification_waits_for_the_name() -> str:
    with settled() as world:
        process = start_sam(world, arguments(world, WINDOW, {}))
        deadline = time.monotonic() + ENDED_WITHIN
        while not world.saw()["lookups"]:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.1)
        begin = time.monotonic()
        time.sleep(MOVED_AFTER)
        assert world.saw()["changes"] == []
        world.point(NEW)
        answer, log = result_and_log(process)
        took = time.monotonic() - begin
        (group,) = answer["targetGroups"]
        reconciles, group["reconciles"] = group["reconciles"], 1
        check(world, EVENTS[WINDOW], answer, log)
        assert took > 48 and 40 <= reconciles <= 51, (took, reconciles)
    return f"{WINDOW} with the default window: {reconciles} reconciles in {took:.0f} s"


def cloudformation_is_not_answered() -> str:
    """Expects that nothing is put anywhere. For the SAM CLI, AWS::URLSuffix is localhost, and nothing may be put
    there either."""
    event = Path(FOLDER.name, "cloudformation.json")
    bucket = "cloudformation-custom-resource-response-euwest1"
    for host in (f"https://{bucket}.s3-eu-west-1.amazonaws.com", f"https://{bucket}.s3-eu-west-1.localhost", "stand-in"):
        with settled() as world:
            event.write_text(json.dumps(cloudformation(f"http://{world.aws}" if host == "stand-in" else host)))
            world.point(NEW)
            answer, log = result_and_log(start_sam(world, arguments(world, str(event), {})))
            assert answer["errorType"] == "AnswerFailed", answer
            assert 'URL_SUFFIX is "localhost"' in answer["errorMessage"], answer
            # The function logs this before it puts anything. The stand-in sees only what is put to itself.
            assert not [line for line in log if line["message"] == "answering CloudFormation"], log
            check(world, Expected("CloudFormation", answer), answer, log)
    return "a CloudFormation request: AnswerFailed, and nothing was put anywhere"


def cloudformation(bucket: str) -> dict:
    event = json.loads((ROOT / "tests/spec/wire/event-cloudformation.json").read_text())
    path = event["ResponseURL"].partition(".amazonaws.com/")[2]
    return event | {"ResponseURL": f"{bucket}/{path}"}


def the_region_is_given_as_the_page_says() -> str:
    event = "events/dry-run.json"
    with settled() as world:
        words = arguments(world, event, {})
        option = words.index("--region")
        del words[option : option + 2]
        answer, _ = result_and_log(start_sam(world, words, AWS_REGION=REGION))
        assert answer["errorType"] == "InvalidConfig", answer
        assert answer["errorMessage"].endswith(f"Region us-east-1, not of {REGION}"), answer
        assert world.saw()["lookups"] == 0
        world.point(NEW)
        answer, log = result_and_log(start_sam(world, words, AWS_DEFAULT_REGION=REGION))
        check(world, EVENTS[event], answer, log)
    return "AWS_DEFAULT_REGION is as good as --region, and without a Region the result is InvalidConfig"


def cargo_lambda_invokes_it() -> str:
    """Uses the runtime of cargo lambda watch, with the function that is built already."""
    program, (_, *words) = [PROGRAMS / "cargo-lambda", "lambda"], CARGO_LAMBDA_INVOKE[1:]
    name, port = words[1], free_port()
    runtime = [*program, "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1", "--invoke-port", port]
    with settled() as world, background(runtime, dict(os.environ)):
        wait_for(port)
        variables = {
            "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{port}/.rt/{name}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "4096",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_REGION": REGION,
            "ENDPOINTS": ENDPOINT,
            "TARGET_GROUP_ARNS": TARGET_GROUP_ARN,
            "DNS_SERVERS": world.dns,
        }
        variables |= ENVIRONMENT | endpoints(world, *CALLED_BY_FUNCTION)
        with background([BUILT / "Function/bootstrap"], variables):
            world.point(NEW)
            for event in ("events/dry-run.json", "events/schedule.json"):
                words[words.index("--data-file") + 1] = event
                stdout, _ = output_of(start([*program, *words, "--invoke-port", port], dict(os.environ)))
                check(world, EVENTS[event], json.loads(stdout))
    return "cargo lambda invoke: a dry run, and a reconcile that changed something"


def in_a_container() -> None:
    """Plays the events with the SAM CLI as it is."""
    try:
        engine = ContainerClientFactory.create_client()
    except ContainerNotReachableException:
        return not_tested("no container engine answers. Start Docker or Finch, and then: make local")
    try:
        engine.images.get(IMAGE)
    except DockerException:
        try:
            engine.images.pull(IMAGE)
        except DockerException as cause:
            return not_tested(f"{IMAGE} cannot be pulled: {cause}")
    network = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    # Docker leaves out a gateway that is the first address.
    host = network.get("Gateway") or str(ip_network(network["Subnet"])[1])
    try:
        socket.create_server((host, 0)).close()
    except OSError as cause:
        return not_tested(f"containers do not reach this machine at {host}: {cause}")
    for event, expected in EVENTS.items():
        with settled() as world, reachable_at(host, world):
            world.point(NEW)
            template = template_with(endpoints(world, *CALLED_BY_FUNCTION))
            words = [*arguments(world, event, expected.parameters), "--skip-pull-image", "--template", template]
            answer, log = result_and_log(start_sam(world, words, [PROGRAMS / "sam"]))
            check(world, expected, answer, log)
        step(f"{event} in a container")


def template_with(variables: dict[str, str]) -> Path:
    """Writes the built template with more variables for the function. The SAM CLI passes on no variable that a
    template lacks."""
    template = yaml_parse((BUILT / "template.yaml").read_text())
    function = template["Resources"]["Function"]["Properties"]
    function["CodeUri"] = str(BUILT / function["CodeUri"])
    function["Environment"]["Variables"] |= variables
    written = Path(FOLDER.name, "template.yaml")
    written.write_text(yaml_dump(template))
    return written


def not_tested(why: str) -> None:
    print(f"only without a container, because {' '.join(why.split())}", flush=True)


BEGIN = time.monotonic()


def step(text: str) -> None:
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)


def main() -> None:
    files = {f"events/{path.name}" for path in (ROOT / "events").iterdir()}
    assert files == EVENTS.keys(), f"nothing is expected of {files ^ EVENTS.keys()}"
    assert files == ROWS.keys(), f"the page does not list {files ^ ROWS.keys()}"
    for event, row in ROWS.items():
        assert ("changes nothing" in row) == (not EVENTS[event].changes), f"{event}: {row}"
    others = (
        a_notification_waits_for_the_name,
        cloudformation_is_not_answered,
        the_region_is_given_as_the_page_says,
        cargo_lambda_invokes_it,
    )
    plays = {play.__name__: play for play in others}
    plays |= {event: partial(is_answered_as_the_page_says, event) for event in EVENTS}
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played = {pool.submit(play): name for name, play in plays.items()}
        for future in as_completed(played):
            try:
                step(future.result())
            except Exception as error:
                step(f"FAILED: {played[future]}: {error!r}")
                failed += 1
    assert not failed, f"{failed} of {len(plays)} failed"
    in_a_container()


if __name__ == "__main__":
    main()
