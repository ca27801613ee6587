//! More target groups than a deployment can have, among calls that are throttled and calls that
//! hang: the invocation ends in time, and each group that nothing is wrong with is served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nlb_hostname_target::error::{Error, Errors};
use nlb_hostname_target::report::Report;
use stand_in::aws::{Call, Fault};
use stand_in::dns::{self, Answer};
use stand_in::lambda::TIMEOUT;
use stand_in::world::{ENDPOINT, Function, World};
use tokio::time::{Instant, sleep};

/// Eight times what Lambda's 4 KB of variables hold.
const GROUPS: u64 = 200;
/// Calls that hang twice leave no time for another attempt before the answer is too old.
const ATTEMPTS: usize = 2;
const NODES: [&str; 2] = ["10.0.1.7", "10.0.2.9"];
const THROTTLED: Fault = Fault::Error(400, "Throttling", "Rate exceeded");

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A sandbox that knows all groups, each of which has had the first node for long.
async fn warm(world: &World) -> Function {
    let function = world.function();
    function.schedule().await.unwrap_err();
    function.schedule().await.unwrap();
    settle(world).await;
    function
}

/// What drains is gone, and what was called and published forgotten.
async fn settle(world: &World) {
    sleep(seconds(60)).await;
    world.aws.take_calls();
    world.aws.take_data();
}

/// Of all calls 5 % are throttled and 1 % hang. The seed says which, and how long the SDK waits
/// before it tries again.
fn disturb(world: &World, seed: u64) {
    fastrand::seed(seed);
    world.aws.set_seed(seed);
    world.aws.inject_share(0.05, THROTTLED);
    world.aws.inject_share(0.01, Fault::Hang);
}

/// One invocation, which ends by itself before Lambda ends it.
async fn in_time(function: &Function) -> Result<Report, Errors> {
    let begin = Instant::now();
    let outcome = function.schedule().await;
    let took = begin.elapsed();
    assert!(took < TIMEOUT, "{took:?}");
    outcome
}

/// The groups whose calls failed so often that the reconcile may fail.
fn unlucky(calls: &[Call]) -> BTreeSet<String> {
    let mut failed: BTreeMap<_, usize> = BTreeMap::new();
    let calls = calls.iter().filter(|call| call.outcome != "Ok");
    for call in calls.filter(|call| call.action != "PutMetricData") {
        *failed.entry(&call.resource).or_default() += 1;
    }
    let failed = failed.into_iter().filter(|(_, times)| *times >= ATTEMPTS);
    failed.map(|(arn, _)| arn.clone()).collect()
}

/// The groups whose errors there are.
fn failed(outcome: Result<Report, Errors>, arns: &[String]) -> BTreeSet<String> {
    let messages: Vec<_> = outcome.err().map_or(Vec::new(), |errors| errors.0);
    let is_told = |arn: &&String| {
        let mut messages = messages.iter();
        messages.any(|message| message.to_string().contains(*arn))
    };
    arns.iter().filter(is_told).cloned().collect()
}

/// The groups whose one target is at this node, what drains left out.
fn at(node: &str, world: &World, arns: &[String]) -> BTreeSet<String> {
    let is_at = |arn: &&String| {
        let mut targets = world.aws.summary(arn);
        targets.retain(|target| !target.ends_with(" draining"));
        targets == [format!("{node}:6379 healthy")]
    };
    arns.iter().filter(is_at).cloned().collect()
}

/// How many failovers were published for each group, those of no group left out.
fn failovers(world: &World) -> BTreeMap<String, f64> {
    let mut failovers = BTreeMap::new();
    for datum in world.aws.take_data() {
        let [(dimension, group)] = &datum.dimensions[..] else {
            panic!("one dimension: {datum:?}")
        };
        if datum.metric == "Failover" && dimension == "TargetGroup" {
            *failovers.entry(group.clone()).or_default() += datum.samples.iter().sum::<f64>();
        }
    }
    failovers
}

fn set<'a>(arns: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    arns.into_iter().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn each_of_200_groups_fails_over_in_time_unless_its_own_calls_fail() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    let function = warm(&world).await;
    let mut unlucky_groups = 0;
    for seed in 1..=8 {
        let node = NODES[seed as usize % 2];
        world.point(node);
        disturb(&world, seed);
        let outcome = in_time(&function).await;
        let unlucky = unlucky(&world.aws.take_calls());
        let failed = failed(outcome, &arns);
        assert!(failed.is_subset(&unlucky), "seed {seed}: {failed:?}");
        let healthy = &set(&arns) - &unlucky;
        let missing = &healthy - &at(node, &world, &arns);
        assert_eq!(missing, BTreeSet::new(), "seed {seed}");

        world.aws.heal();
        in_time(&function).await.unwrap();
        assert_eq!(at(node, &world, &arns), set(&arns), "seed {seed}");
        let failovers = failovers(&world);
        assert_eq!(failovers.len(), arns.len());
        let is_once = failovers.values().all(|failovers| *failovers == 1.0);
        assert!(is_once, "each counted once, seed {seed}: {failovers:?}");
        settle(&world).await;
        unlucky_groups += unlucky.len();
    }
    assert!(unlucky_groups < 80, "a few of 1,600: {unlucky_groups}");
}

#[tokio::test(start_paused = true)]
async fn a_cold_sandbox_has_served_200_groups_after_two_invocations() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    let function = world.function();
    disturb(&world, 1);
    let errors = in_time(&function).await.unwrap_err();
    let late = |error: &&Error| error.error_type() == "DeadlineExceeded";
    let unlucky_groups = unlucky(&world.aws.take_calls());
    let errors = errors.0;
    let late = errors.iter().filter(late).count();
    assert!(late > 0 && errors.len() <= late + unlucky_groups.len());
    let served = at(NODES[0], &world, &arns).len();
    assert_eq!(served + errors.len(), arns.len());

    let outcome = in_time(&function).await;
    let unlucky_groups = unlucky(&world.aws.take_calls());
    assert!(failed(outcome, &arns).is_subset(&unlucky_groups));
    let missing = &set(&arns) - &at(NODES[0], &world, &arns);
    assert!(missing.is_subset(&unlucky_groups), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn groups_that_hang_in_every_call_keep_no_others_waiting() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    let function = warm(&world).await;
    let (hanging, others) = arns.split_at(arns.len() / 2);
    let actions = ["DescribeTargetHealth", "RegisterTargets"];
    for (action, node) in actions.into_iter().zip([NODES[1], NODES[0]]) {
        world.point(node);
        for arn in hanging {
            let hang = Fault::Hang;
            world.aws.inject_where(action, Some(arn), hang, None);
        }
        let outcome = in_time(&function).await;
        assert_eq!(failed(outcome, &arns), set(hanging), "{action}");
        assert_eq!(at(node, &world, others), set(others), "{action}");
        world.aws.heal();
        in_time(&function).await.unwrap();
        settle(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_answers_keep_no_others_waiting() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    let (silent, others) = arns.split_at(arns.len() / 2);
    let endpoint = |index| match index < silent.len() {
        true => format!("{index}.{ENDPOINT}"),
        false => ENDPOINT.to_owned(),
    };
    let endpoints: Vec<_> = (0..arns.len()).map(endpoint).collect();
    world.set("ENDPOINTS", endpoints.join(","));
    for endpoint in &endpoints {
        world.zone.set(endpoint, dns::addresses([NODES[0]]));
    }
    let function = warm(&world).await;
    for endpoint in &endpoints[..silent.len()] {
        world.zone.set(endpoint, Answer::Silent);
    }
    world.point(NODES[1]);
    let errors = in_time(&function).await.unwrap_err();
    assert_eq!(errors.0.len(), silent.len());
    assert_eq!(at(NODES[1], &world, others), set(others));
    assert_eq!(at(NODES[0], &world, silent), set(silent));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_cloudwatch_delays_no_failover_and_loses_none() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    let function = warm(&world).await;
    world.point(NODES[1]);
    world.aws.inject_always("PutMetricData", Fault::Hang);
    let errors = in_time(&function).await.unwrap_err();
    assert_eq!(errors.error_type(), "PublishFailed");
    assert_eq!(at(NODES[1], &world, &arns), set(&arns));
    world.aws.heal();
    in_time(&function).await.unwrap();
    let failovers = failovers(&world);
    assert!(failovers.len() == arns.len() && failovers.values().all(|failovers| *failovers == 1.0));
}

#[tokio::test(start_paused = true)]
async fn failovers_that_come_together_are_published_together() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    world.feed(GROUPS);
    let function = warm(&world).await;
    world.point(NODES[1]);
    in_time(&function).await.unwrap();
    let calls = world.aws.take_calls();
    let published: Vec<_> = calls
        .iter()
        .filter(|call| call.action == "PutMetricData")
        .map(|call| call.data.len())
        .collect();
    // The pace lets 20 begin at once, and then five a second.
    assert!(published.len() <= 1 + 36, "{published:?}");
    assert!(published.iter().all(|data| *data <= 3 * 20 + 3));
}

#[tokio::test(start_paused = true)]
async fn in_a_window_200_groups_take_turns() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    world.feed(GROUPS);
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let function = warm(&world).await;
    disturb(&world, 1);
    let outcome = in_time(&function).await;
    let report = outcome.unwrap();
    let counts = report.target_groups.iter().map(|group| group.reconciles);
    let counts: BTreeSet<_> = counts.collect();
    assert_eq!(
        counts,
        BTreeSet::from([1, 2]),
        "none waits for two of another"
    );
}
