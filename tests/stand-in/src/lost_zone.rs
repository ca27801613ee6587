//! A zone fails, and the endpoints of many groups move. These are the cases of section 1 of the contract, against the
//! token buckets of Elastic Load Balancing, over sockets or in memory as the world is.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::aws::Call;
use crate::lambda::{QUEUE, SCHEDULE, Sandbox, TIMEOUT};
use crate::world::{World, group_arn};

pub const GROUPS: usize = 25;
pub const OLD: &str = "10.0.1.7";
pub const NEW: &str = "10.0.2.9";

/// The result of a case.
pub struct Played {
    pub begin: Instant,
    /// The times at which the groups' names moved.
    moved: Vec<Instant>,
    pub calls: Vec<Call>,
    pub reports: Vec<Value>,
}

impl Played {
    pub fn count(&self, action: &str) -> usize {
        let calls = self.calls.iter();
        calls.filter(|call| call.action == action).count()
    }

    pub fn refused(&self) -> usize {
        let calls = self.calls.iter();
        calls.filter(|call| call.outcome == "Throttling").count()
    }

    /// Returns the share of the calls to Elastic Load Balancing that were refused, from 0 to 1.
    pub fn refused_share(&self) -> f64 {
        self.refused() as f64 / (self.calls.len() - self.count("PutMetricData")) as f64
    }

    /// Returns the longest time from the move of a name to the registration.
    pub fn slowest_register(&self) -> Duration {
        let registered = self.first_of_each("RegisterTargets").into_iter();
        let latencies = registered.zip(&self.moved).map(|(at, moved)| at - *moved);
        latencies.max().expect("a group")
    }

    /// Returns the time from the beginning to the last group's deregistration.
    pub fn last_deregister(&self) -> Duration {
        let deregistered = self.first_of_each("DeregisterTargets").into_iter();
        deregistered.max().expect("a group") - self.begin
    }

    /// Returns the time of each group's first call of that action that succeeded.
    fn first_of_each(&self, action: &str) -> Vec<Instant> {
        let first = |index: usize| {
            let arn = group_arn(index as u64);
            let is_it =
                |call: &&Call| call.action == action && call.resource == arn && call.is_success();
            let first = self.calls.iter().find(is_it);
            first
                .unwrap_or_else(|| panic!("no {action} of group {index}"))
                .at
        };
        (0..self.moved.len()).map(first).collect()
    }
}

/// Moves one group's name, which one invocation follows in a sandbox that knows the group.
pub async fn one_group(world: &World) -> Played {
    let sandbox = warm(world).await;
    play(world, [(sandbox, SCHEDULE)], 1, Duration::ZERO).await
}

/// Lets an invocation poll once a second for 50 s while nothing moves.
pub async fn settled(world: &mut World) -> Played {
    world.set("SCHEDULE_POLL_SECONDS", 50);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let sandbox = warm(world).await;
    play(world, [(sandbox, SCHEDULE)], 0, Duration::ZERO).await
}

/// Moves all names at once, which one invocation follows.
pub async fn at_once(world: &World) -> Played {
    let sandbox = warm(world).await;
    play(world, [(sandbox, SCHEDULE)], GROUPS, Duration::ZERO).await
}

/// Moves all names within 3 s, while two invocations by notification and one by schedule begin, each in a cold sandbox.
pub async fn three_cold(world: &mut World) -> Played {
    world.set("SCHEDULE_POLL_SECONDS", 50);
    let mut invocations = Vec::new();
    for event in [QUEUE, QUEUE, SCHEDULE] {
        invocations.push((world.sandbox().await, event));
    }
    play(world, invocations, GROUPS, Duration::from_secs(3)).await
}

/// Returns a sandbox that knows what the groups are, once the buckets are full again.
async fn warm(world: &World) -> Sandbox {
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke(r#"{"dryRun":true}"#, TIMEOUT).await;
    answer.outcome.expect("an invocation that succeeded");
    sleep(Duration::from_secs(5)).await;
    world.aws.take_calls();
    sandbox
}

/// Starts the invocations one second apart, and moves the names of this many groups at even intervals.
async fn play(
    world: &World,
    invocations: impl IntoIterator<Item = (Sandbox, &str)>,
    groups: usize,
    within: Duration,
) -> Played {
    let begin = Instant::now();
    let moved = (0..groups).map(|index| begin + within * index as u32 / groups as u32);
    let moved: Vec<_> = moved.collect();
    let moves = async {
        for (index, at) in moved.iter().enumerate() {
            if *at > begin {
                sleep_until(*at).await;
            }
            world.point_one(index, NEW);
        }
    };
    let invocations = invocations.into_iter().zip(0..);
    let invocations = invocations.map(async |((mut sandbox, event), second)| {
        sleep_until(begin + Duration::from_secs(second)).await;
        let answer = sandbox.invoke(event, TIMEOUT).await;
        let report = answer.outcome.expect("an invocation that succeeded");
        assert!(report["errorType"].is_null(), "{report}");
        report
    });
    let ((), reports) = join!(moves, join_all(invocations));
    Played {
        begin,
        moved,
        calls: world.aws.take_calls(),
        reports,
    }
}
