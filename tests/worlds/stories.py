"""Plays a first registration, a failover and a quiet minute in worlds that others have built.

Each world is an AWS emulator that knows nothing of the function and runs as its documentation says. The function is the
one that is deployed. A story creates what it needs with boto3, invokes the function as its schedule does, and asks the
world what the target group has and what CloudWatch has counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from emulator_process import ENDPOINT, Zone, dns_server, step
from sandbox import Sandbox, sandbox
from world import PORT, TargetGroup, World, create_target_group, metrics, ministack_world, moto_world

OLD, NEW = "10.0.1.7", "10.0.2.9"


@dataclass(frozen=True)
class Story:
    """A function that follows a name into a target group. Function and group have the name of the story."""

    name: str
    world: World
    zone: Zone
    group: TargetGroup
    sandbox: Sandbox

    def invoke(self, *messages: str, **changes: object) -> None:
        """Invokes the function, which answers and logs these changes, and logs these messages before its result."""
        before = len(self.sandbox.log())
        answer = self.sandbox.invoke()
        lines = self.sandbox.log()[before:]
        group = {
            "targetGroupArn": self.group.arn,
            "endpoints": [ENDPOINT],
            "desired": [f"{self.zone.address}:{PORT}"],
            "registered": [],
            "deregistered": [],
            "failover": False,
            "reconciles": 1,
            **changes,
        }
        if self.world.refusal is None:
            assert answer == {"dryRun": False, "targetGroups": [group]}, answer
            errors = set()
        else:
            assert answer.get("errorType") == "PublishFailed" and self.world.refusal in answer["errorMessage"], answer
            errors = {"PublishFailed"}
        assert {line.get("errorType") for line in lines if line["level"] == "ERROR"} == errors, lines
        done = [line["message"].split()[0] for line in lines if line["level"] != "ERROR"]
        assert done == [*messages, "result"], lines
        assert lines[-1]["targetGroups"] == ([group] if changes else []), lines

    def expect_targets(self, *addresses: str) -> None:
        targets = self.group.targets()
        assert targets == [f"{address}:{PORT}" for address in addresses], targets

    def expect_metrics(self, of_function: dict, of_group: dict) -> None:
        """Expects that CloudWatch has these sums and numbers of samples of the function, and these sums of the
        target group."""
        if self.world.refusal is not None:
            of_function = of_group = {}
        assert (found := metrics("FunctionName", self.name)) == of_function, found
        # A group's samples are published for the minutes in which one of them is not 0, and a minute may end meanwhile.
        found = metrics("TargetGroup", self.group.dimension)
        assert {metric: total for metric, (total, _) in found.items()} == of_group, found


def first_registration(story: Story) -> None:
    story.expect_targets()
    story.invoke("registering", "reconciled", registered=[f"{OLD}:{PORT}"])
    story.expect_targets(OLD)
    story.expect_metrics({"Failover": (0, 1), "ReconcileFailure": (0, 1), "NoHealthyTarget": (0, 1)}, {})


def failover(story: Story) -> None:
    story.group.register(OLD)
    story.invoke()
    story.zone.address = NEW
    changes = {"registered": [f"{NEW}:{PORT}"], "deregistered": [f"{OLD}:{PORT}"], "failover": True}
    story.invoke("registering", "deregistering", "reconciled", **changes)
    story.expect_targets(NEW)
    story.expect_metrics(
        {"Failover": (1, 2), "ReconcileFailure": (0, 2), "NoHealthyTarget": (0, 2)},
        {"Failover": 1, "ReconcileFailure": 0, "NoHealthyTarget": 0},
    )


def quiet_minute(story: Story) -> None:
    story.group.register(OLD)
    story.invoke()
    story.expect_targets(OLD)
    story.expect_metrics({"Failover": (0, 1), "ReconcileFailure": (0, 1), "NoHealthyTarget": (0, 1)}, {})


def play(story: Callable[[Story], None], world: World) -> None:
    name, zone = story.__name__.replace("_", "-"), Zone()
    zone.address = OLD
    group = create_target_group(name)
    with dns_server(zone) as address:
        variables = {
            "AWS_ENDPOINT_URL": world.url,
            "ENDPOINTS": ENDPOINT,
            "TARGET_GROUP_ARNS": group.arn,
            "DNS_SERVERS": address,
            "ALLOWED_CIDRS": "10.0.0.0/16",
        }
        with sandbox(name, **variables) as function:
            story(Story(name, world, zone, group, function))


def main() -> None:
    for start in (ministack_world, moto_world):
        with start() as world:
            publishing = "" if world.refusal is None else ", but for the metrics, which it refuses"
            for story in (first_registration, failover, quiet_minute):
                play(story, world)
                step(f"{world.name}: {story.__name__.replace('_', ' ')}{publishing}")


if __name__ == "__main__":
    main()
