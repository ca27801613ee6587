//! A fleet of 500 groups. These are the cases of section 9 of the contract, against the token buckets of Elastic Load
//! Balancing, over sockets or in memory as the world is.

use std::time::Duration;

use tokio::time::sleep;

use crate::lambda::{SCHEDULE, Sandbox};
use crate::lost_zone::{OLD, Played, play};
use crate::world::{World, group_arn, own_endpoint};

pub const GROUPS: usize = 500;
const MINUTE: Duration = Duration::from_secs(60);

/// Returns the tags of a group of the fleet that [`follow`] follows.
pub fn tags(endpoints: &str) -> [(&str, &str); 2] {
    [
        ("nlb-hostname-target/fleet", "redis"),
        ("nlb-hostname-target/endpoints", endpoints),
    ]
}

pub fn tag(world: &World, arn: &str, endpoints: &str) {
    world.aws.tag(arn, tags(endpoints));
}

/// Lets the function follow the fleet, and no configured group.
pub fn follow(world: &mut World) {
    world.set("ENDPOINTS", "");
    world.set("TARGET_GROUP_ARNS", "");
    world.set("FLEET", "redis");
    world.set("ALLOWED_CIDRS", "10.0.0.0/8");
}

/// Makes a fleet of this many settled groups, each with an endpoint of its own.
pub fn settle(world: &mut World, groups: usize) {
    world.settle_many(groups, OLD);
    follow(world);
    for index in 0..groups {
        tag(world, &group_arn(index as u64), &own_endpoint(index));
    }
}

/// Returns a sandbox that knows all groups, once the buckets are full again. Two invocations have reads for 500 groups.
pub async fn warm(world: &World) -> Sandbox {
    let mut sandbox = world.sandbox().await;
    for _ in 0..3 {
        sandbox.schedule().await.outcome.expect("success");
        sleep(Duration::from_secs(5)).await;
    }
    world.aws.take_calls();
    sandbox
}

/// Moves the name of one group, which one invocation follows.
pub async fn one_moves(world: &World, sandbox: &mut Sandbox, index: usize) -> Played {
    play(
        world,
        [(sandbox, SCHEDULE)],
        MINUTE,
        [index],
        Duration::ZERO,
    )
    .await
    .without_error()
}

/// Moves the names of a third of the groups, which these sandboxes follow minute by minute. The deadline may cut off a
/// call, which ends the invocation in error.
pub async fn a_third_moves(world: &World, sandboxes: &mut [Sandbox]) -> Played {
    let invocations = sandboxes.iter_mut().map(|sandbox| (sandbox, SCHEDULE));
    let moved = (0..GROUPS).step_by(3);
    play(world, invocations, MINUTE, moved, Duration::ZERO).await
}
