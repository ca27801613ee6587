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

const SECOND: Duration = Duration::from_secs(1);
pub const GROUPS: usize = 25;
pub const OLD: &str = "10.0.1.7";
pub const NEW: &str = "10.0.2.9";

/// The result of a case.
pub struct Played {
    pub begin: Instant,
    /// The groups whose names moved, with the time of each.
    moved: Vec<(usize, Instant)>,
    pub calls: Vec<Call>,
    pub reports: Vec<Value>,
    /// The errors of the invocations that failed, and of those that reported one.
    pub errors: Vec<Value>,
}

impl Played {
    /// # Panics
    /// Panics if an invocation failed.
    pub fn without_error(self) -> Self {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        self
    }

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
        let latencies = registered
            .zip(&self.moved)
            .map(|(at, (_, moved))| at - *moved);
        latencies.max().expect("a group")
    }

    /// Returns the time from the beginning to the last group's deregistration.
    pub fn last_deregister(&self) -> Duration {
        let deregistered = self.first_of_each("DeregisterTargets").into_iter();
        deregistered.max().expect("a group") - self.begin
    }

    /// Returns the time of each group's first call of that action that succeeded.
    fn first_of_each(&self, action: &str) -> Vec<Instant> {
        let first = |(index, _): &(usize, Instant)| {
            let arn = group_arn(*index as u64);
            let is_it =
                |call: &&Call| call.action == action && call.resource == arn && call.is_success();
            let first = self.calls.iter().find(is_it);
            first
                .unwrap_or_else(|| panic!("no {action} of group {index}"))
                .at
        };
        self.moved.iter().map(first).collect()
    }
}

/// Moves one group's name, which one invocation follows in a sandbox that knows the group.
pub async fn one_group(world: &World) -> Played {
    one_invocation(world, 1).await
}

/// Lets an invocation poll once a second for 50 s while nothing moves.
pub async fn settled(world: &mut World) -> Played {
    world.set("SCHEDULE_POLL_SECONDS", 50);
    world.set("POLL_INTERVAL_SECONDS", 1);
    one_invocation(world, 0).await
}

/// Moves all names at once, which one invocation follows.
pub async fn at_once(world: &World) -> Played {
    one_invocation(world, GROUPS).await
}

/// Moves the names of this many groups at once, which one invocation follows in a sandbox that knows them.
async fn one_invocation(world: &World, groups: usize) -> Played {
    let mut sandbox = warm(world).await;
    let invocations = [(&mut sandbox, SCHEDULE)];
    let played = play(world, invocations, SECOND, 0..groups, Duration::ZERO);
    played.await.without_error()
}

/// Moves all names within 3 s, while two invocations by notification and one by schedule begin, each in a cold sandbox.
pub async fn three_cold(world: &mut World) -> Played {
    world.set("SCHEDULE_POLL_SECONDS", 50);
    let mut sandboxes = Vec::new();
    for _ in 0..3 {
        sandboxes.push(world.sandbox().await);
    }
    let invocations = sandboxes.iter_mut().zip([QUEUE, QUEUE, SCHEDULE]);
    let played = play(world, invocations, SECOND, 0..GROUPS, 3 * SECOND);
    played.await.without_error()
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

/// Starts the invocations so far apart, and moves the names of these groups at even intervals.
pub async fn play<'a>(
    world: &World,
    invocations: impl IntoIterator<Item = (&'a mut Sandbox, &str)>,
    apart: Duration,
    groups: impl IntoIterator<Item = usize>,
    within: Duration,
) -> Played {
    let begin = Instant::now();
    let groups: Vec<_> = groups.into_iter().collect();
    let count = groups.len() as u32;
    let moved = groups.into_iter().zip(0..);
    let moved = moved.map(|(group, place)| (group, begin + within * place / count));
    let moved: Vec<_> = moved.collect();
    let moves = async {
        for (index, at) in &moved {
            if *at > begin {
                sleep_until(*at).await;
            }
            world.point_one(*index, NEW);
        }
    };
    let invocations = invocations.into_iter().zip(0..);
    let invocations = invocations.map(async |((sandbox, event), place)| {
        sleep_until(begin + apart * place).await;
        sandbox.invoke(event, TIMEOUT).await.outcome
    });
    let ((), outcomes) = join!(moves, join_all(invocations));
    let mut played = Played {
        begin,
        moved,
        calls: world.aws.take_calls(),
        reports: Vec::new(),
        errors: Vec::new(),
    };
    for outcome in outcomes {
        match outcome {
            Ok(report) if report["errorType"].is_null() => played.reports.push(report),
            Ok(error) | Err(error) => played.errors.push(error),
        }
    }
    played
}
