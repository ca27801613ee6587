//! More target groups than a deployment can have all move at once, among calls that hang. The invocation ends in time,
//! and each group that nothing is wrong with is served in the next ones.

use std::collections::{BTreeMap, BTreeSet};

use nlb_hostname_target::error::Errors;
use nlb_hostname_target::report::Report;
use stand_in::aws::Fault;
use stand_in::dns::Answer;
use stand_in::lambda::TIMEOUT;
use stand_in::world::{ENDPOINT, Function, PORT, World, own_endpoint};
use tokio::time::{Instant, sleep};

use crate::reading::seconds;

/// The number of groups. It is four times what Lambda's 4 KB of variables hold.
const GROUPS: u64 = 100;
/// The number of invocations into which the 200 calls that change the groups fit, though some hang. The pace is 16
/// calls at once, and 3 a second for 67 seconds.
const INVOCATIONS: usize = 3;
const NODES: [&str; 2] = ["10.0.1.7", "10.0.2.9"];

/// Makes this many groups with one name, and a sandbox that knows them. Each group has had the first node for long.
async fn warm(groups: u64) -> (World, Vec<String>, Function) {
    fastrand::seed(1);
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(groups);
    for arn in &arns {
        world.aws.settle(arn, NODES[0], PORT);
    }
    let function = world.function();
    for _ in 0..3 {
        in_time(&function).await.unwrap();
    }
    settle(&world).await;
    world.aws.limit(0.0);
    (world, arns, function)
}

/// Waits until all draining targets are gone. Forgets what was called and published.
async fn settle(world: &World) {
    sleep(seconds(300)).await;
    world.aws.take_calls();
    world.aws.take_data();
}

/// Makes one call in a hundred hang. The seed says which.
fn disturb(world: &World, seed: u64) {
    world.aws.set_seed(seed);
    world.aws.inject_share(0.01, Fault::Hang);
}

/// Runs one invocation. Checks that it ends by itself before Lambda ends it.
async fn in_time(function: &Function) -> Result<Report, Errors> {
    let begin = Instant::now();
    let outcome = function.schedule().await;
    let took = begin.elapsed();
    assert!(took < TIMEOUT, "{took:?}");
    outcome
}

/// Returns the groups whose only target is at this node. Draining targets are left out.
fn at(node: &str, world: &World, arns: &[String]) -> BTreeSet<String> {
    let is_at = |arn: &&String| {
        let mut targets = world.aws.summary(arn);
        targets.retain(|target| !target.ends_with(" draining"));
        matches!(&targets[..], [one] if one.starts_with(node))
    };
    arns.iter().filter(is_at).cloned().collect()
}

/// Returns how many failovers were published for each group. Those without a group are left out.
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

/// Moves the endpoint, and lets the invocations of three minutes follow. Returns what fails in the last one.
async fn fail_over(world: &World, function: &Function, node: &str) -> Vec<String> {
    world.point(node);
    let mut failed = Vec::new();
    for _ in 0..INVOCATIONS {
        let errors = in_time(function).await.err().into_iter().flatten();
        failed = errors.map(|error| error.to_string()).collect();
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn each_of_100_groups_fails_over_whatever_hangs() {
    let (world, arns, function) = warm(GROUPS).await;
    for seed in 1..=4 {
        let node = NODES[seed as usize % 2];
        disturb(&world, seed);
        fail_over(&world, &function, node).await;
        assert_eq!(at(node, &world, &arns), set(&arns), "seed {seed}");
        world.aws.heal();
        in_time(&function).await.unwrap();
        let failovers = failovers(&world);
        assert_eq!(failovers.len(), arns.len());
        let mut others = failovers;
        others.retain(|_, failovers| *failovers != 1.0);
        assert!(others.is_empty(), "each once, seed {seed}: {others:?}");
        settle(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_sandbox_has_served_100_groups_after_one_invocation() {
    let mut world = World::settled_in_memory(NODES[0], 5).await;
    let arns = world.feed(GROUPS);
    world.aws.limit(0.0);
    let function = world.function();
    in_time(&function).await.unwrap();
    assert_eq!(at(NODES[0], &world, &arns), set(&arns));
    let calls = world.aws.take_calls();
    assert!(calls.iter().all(|call| call.outcome == "Ok"));
    let described = calls
        .iter()
        .filter(|call| call.action == "DescribeTargetGroups");
    assert!(described.count() < 10);
}

#[tokio::test(start_paused = true)]
async fn groups_that_hang_in_every_call_keep_no_others_waiting() {
    let (world, arns, function) = warm(GROUPS).await;
    let (hanging, others) = arns.split_at(arns.len() / 2);
    let actions = ["DescribeTargetHealth", "RegisterTargets"];
    for (action, node) in actions.into_iter().zip([NODES[1], NODES[0]]) {
        for arn in hanging {
            let hang = Fault::Hang;
            world.aws.inject_where(action, Some(arn), hang, None);
        }
        let failed = fail_over(&world, &function, node).await;
        let is_other = |failure: &String| others.iter().any(|arn| failure.contains(arn));
        assert!(!failed.iter().any(is_other), "{action}: {failed:?}");
        assert_eq!(at(node, &world, others), set(others), "{action}");
        world.aws.heal();
        fail_over(&world, &function, node).await;
        settle(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_answers_keep_no_others_waiting() {
    let (mut world, arns, _) = warm(GROUPS).await;
    let (silent, others) = arns.split_at(arns.len() / 2);
    let names: Vec<_> = (0..silent.len()).map(own_endpoint).collect();
    let answered = others.iter().map(|arn| (ENDPOINT, arn));
    let pairs = names.iter().map(String::as_str).zip(silent);
    world.follow(pairs.chain(answered));
    for name in &names {
        world.zone.set(name, Answer::Silent);
    }
    let failed = fail_over(&world, &world.function(), NODES[1]).await;
    let is_told = |name| failed.concat().contains(&format!("resolve {name}:"));
    assert!(failed.len() == names.len() && names.iter().all(is_told));
    assert_eq!(at(NODES[1], &world, others), set(others));
    assert_eq!(at(NODES[0], &world, silent), set(silent));
}

#[tokio::test(start_paused = true)]
async fn failovers_that_come_together_are_published_together() {
    // The 16 calls of these groups go out together.
    let (world, _, function) = warm(8).await;
    world.point(NODES[1]);
    in_time(&function).await.unwrap();
    let calls = world.aws.take_calls();
    let published = calls.iter().filter(|call| call.action == "PutMetricData");
    let published: Vec<_> = published.map(|call| call.data.len()).collect();
    assert!(published.len() <= 2, "{published:?}");
}
