//! A zone fails, and 25 endpoints move: the real binary on the wall clock, against stand-ins that have the
//! token buckets of Elastic Load Balancing, 40 ms a call and 5 ms for DNS. Beside each figure stands what
//! the contract bounds it by, and what the buckets alone make of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use stand_in::aws::Call;
use stand_in::lambda::{QUEUE, SCHEDULE, Sandbox, TIMEOUT};
use stand_in::world::{World, group_arn};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

const GROUPS: usize = 25;
const OLD: &str = "10.0.1.7";
const NEW: &str = "10.0.2.9";
/// Of `RegisterTargets` and `DeregisterTargets` together: what the bucket holds, and what it gets a second.
const BUCKET: (f64, f64) = (20.0, 4.0);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{GROUPS} groups and one, each with an endpoint of its own. Takes two minutes.\n");
    println!("{:<44} {:>12} {:>12}", "", "measured", "at most");
    one_group().await;
    settled().await;
    at_once().await;
    three_cold().await;
    let calls = 2.0 * GROUPS as f64;
    let bound = (calls - BUCKET.0) / BUCKET.1;
    println!(
        "\nThe bucket alone would need {bound:.1} s for {calls} registrations and deregistrations."
    );
    println!("The description alone lets one group's first register go out after 40 ms.");
}

async fn world(groups: usize) -> World {
    let mut world = World::empty().await;
    world.ttl = 5;
    world.settle_many(groups, OLD);
    world
}

async fn one_group() {
    let world = world(1).await;
    let mut sandbox = warm(&world).await;
    invoke(&mut sandbox, SCHEDULE).await;
    let idle = world.aws.take_calls().len();
    world.point_one(0, NEW);
    let begin = Instant::now();
    invoke(&mut sandbox, SCHEDULE).await;
    let calls = world.aws.take_calls();
    let registered = first_of_each(&calls, "RegisterTargets")[&group_arn(0)] - begin;
    println!("one group, one reconcile");
    row("calls to AWS when nothing has moved", idle, "2");
    row("calls to AWS in a failover", calls.len(), "4");
    row("first register, milliseconds", registered.as_millis(), "");
}

async fn settled() {
    let mut world = world(GROUPS).await;
    world.set("SCHEDULE_POLL_SECONDS", 50);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let mut sandbox = warm(&world).await;
    invoke(&mut sandbox, SCHEDULE).await;
    let calls = world.aws.take_calls();
    println!("settled, polling once a second for 50 s");
    row(
        "describe calls",
        count(&calls, "DescribeTargetHealth"),
        "25",
    );
    row("PutMetricData", count(&calls, "PutMetricData"), "1");
    row("refused calls", refused(&calls), "0");
}

async fn at_once() {
    let world = world(GROUPS).await;
    let mut sandbox = warm(&world).await;
    let begin = Instant::now();
    (0..GROUPS).for_each(|index| world.point_one(index, NEW));
    invoke(&mut sandbox, SCHEDULE).await;
    let calls = world.aws.take_calls();
    println!("all move at once, one invocation");
    row(
        "last old one gone, seconds",
        last(&calls, "DeregisterTargets", begin),
        "18",
    );
    row("refused calls", refused(&calls), "0");
}

async fn three_cold() {
    let mut world = world(GROUPS).await;
    world.set("SCHEDULE_POLL_SECONDS", 50);
    let mut sandboxes = [
        world.sandbox().await,
        world.sandbox().await,
        world.sandbox().await,
    ];
    let begin = Instant::now();
    let at = |index: usize| begin + Duration::from_secs(3) * index as u32 / GROUPS as u32;
    let moves = async {
        for index in 0..GROUPS {
            sleep_until(at(index)).await;
            world.point_one(index, NEW);
        }
    };
    let invocations = sandboxes
        .iter_mut()
        .enumerate()
        .map(async |(index, sandbox)| {
            sleep(Duration::from_secs(index as u64)).await;
            invoke(sandbox, if index == 2 { SCHEDULE } else { QUEUE }).await;
        });
    join!(join_all(invocations), moves);
    let calls = world.aws.take_calls();
    let registered = first_of_each(&calls, "RegisterTargets");
    let latencies = (0..GROUPS).map(|index| registered[&group_arn(index as u64)] - at(index));
    let slowest = latencies.max().expect("groups").as_secs_f64();
    let elb = calls.iter().filter(|call| call.action != "PutMetricData");
    let share = 100.0 * refused(&calls) as f64 / elb.count() as f64;
    println!("all move within 3 s, three cold invocations");
    row("slowest register, seconds", format!("{slowest:.1}"), "12");
    row(
        "last old one gone, seconds",
        last(&calls, "DeregisterTargets", begin),
        "50",
    );
    row("refused calls, %", format!("{share:.1}"), "15");
}

fn row(what: &str, measured: impl ToString, bound: &str) {
    println!("  {what:<42} {:>12} {bound:>12}", measured.to_string());
}

/// A sandbox that knows what the groups are.
async fn warm(world: &World) -> Sandbox {
    let mut sandbox = world.sandbox().await;
    invoke(&mut sandbox, r#"{"dryRun":true}"#).await;
    // The buckets are full again.
    sleep(Duration::from_secs(5)).await;
    world.aws.take_calls();
    sandbox
}

async fn invoke(sandbox: &mut Sandbox, event: &str) {
    let answer = sandbox.invoke(event, TIMEOUT).await;
    let report = answer.outcome.expect("an invocation that succeeded");
    assert!(report["errorType"].is_null(), "{report}");
}

fn count(calls: &[Call], action: &str) -> usize {
    calls.iter().filter(|call| call.action == action).count()
}

fn refused(calls: &[Call]) -> usize {
    let refused = calls.iter().filter(|call| call.outcome == "Throttling");
    refused.count()
}

/// When each group's first call of that action succeeded.
fn first_of_each(calls: &[Call], action: &str) -> BTreeMap<String, Instant> {
    let mut first = BTreeMap::new();
    let done = calls
        .iter()
        .filter(|call| call.action == action && call.is_success());
    for call in done {
        first.entry(call.resource.clone()).or_insert(call.at);
    }
    first
}

/// When the last group's first call of that action succeeded.
fn last(calls: &[Call], action: &str, begin: Instant) -> String {
    let first = first_of_each(calls, action);
    assert_eq!(first.len(), GROUPS, "{action}");
    let last = first.into_values().max().expect("groups");
    format!("{:.1}", (last - begin).as_secs_f64())
}
