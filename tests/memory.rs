//! Checks that a sandbox does not need more memory the longer it lives. It measures what the real binary occupies, as
//! Linux counts it, over the invocations of a mixed day. On that day endpoints fail over, and DNS, Elastic Load
//! Balancing and CloudWatch fail. The deadline cuts some invocations off. With `--soak` the mixed day has many more
//! invocations, and a second day follows. On that day CloudWatch is out of reach all the time, and what is not
//! published is kept until there is too much of it.
//!
//! This is a program of its own, so that its measurements are printed even when it passes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stand_in::aws::Fault;
use stand_in::dns::{self, ResponseCode, addresses};
use stand_in::elb::TargetGroup;
use stand_in::lambda::{Answer, NOTIFICATION, Process, SCHEDULE, TIMEOUT};
use stand_in::world::{PORT, World, group_arn, own_endpoint};

const PRINTED: [u32; 6] = [100, 1_000, 2_000, 3_000, 5_000, 10_000];
/// The growth in kB that is tolerated. Over 7,000 invocations it allows 37 bytes for each.
const TOLERATED: i64 = 256;
const GROUPS: usize = 2;
/// A timeout that cuts off an invocation in which something hangs.
const SHORT: Duration = Duration::from_millis(300);
const EVENTS: [&str; 6] = [
    SCHEDULE,
    "{}",
    "null",
    include_str!("../events/dry-run.json"),
    NOTIFICATION,
    "[\"of another type\"]",
];
const DENIED: Fault = Fault::Error(403, "AccessDenied", "no");
const THROTTLED: Fault = Fault::Error(400, "Throttling", "Rate exceeded");

/// A series of invocations of one sandbox.
struct Day {
    name: &'static str,
    /// The sandbox may not grow after this invocation.
    warm: u32,
    invocations: u32,
    /// The expected outcomes, in alphabetical order.
    outcomes: &'static [&'static str],
    /// Prepares the n-th invocation, and returns its timeout.
    disturb: fn(&World, u32) -> Duration,
}

const MIXED: Day = Day {
    name: "A mixed day",
    warm: 1_000,
    invocations: 2_000,
    outcomes: &[
        "AnswerRefused",
        "DeadlineExceeded",
        "DeregisterFailed",
        "DescribeFailed",
        "PublishFailed",
        "RegisterFailed",
        "ResolveFailed",
        "success",
    ],
    disturb: mixed,
};

const SOAK: [Day; 2] = [
    Day {
        warm: 3_000,
        invocations: 10_000,
        ..MIXED
    },
    Day {
        name: "A day without CloudWatch",
        // By then there are too many data to keep all of them.
        warm: 3_000,
        invocations: 4_000,
        outcomes: &["PublishFailed", "success"],
        disturb: |world, _| {
            world.aws.inject_always("PutMetricData", DENIED);
            TIMEOUT
        },
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // Cargo passes on which tests are wanted, by parts of their names. This program has no named tests.
    if arguments.iter().any(|argument| !argument.starts_with('-')) {
        println!("not asked for: the memory of a sandbox");
        return;
    }
    if !cfg!(target_os = "linux") {
        println!("NOT MEASURED: the memory of a sandbox, which is read from Linux's /proc");
        return;
    }
    let days: &[Day] = match arguments.contains(&"--soak".to_owned()) {
        true => &SOAK,
        false => &[MIXED],
    };
    for day in days {
        println!(
            "\n{}: what one sandbox occupies, and the most until then, in kB",
            day.name
        );
        let grown = live(day).await;
        println!("from invocation {} on {grown:+}", day.warm);
        assert!(grown <= TOLERATED, "it grows");
    }
}

/// Runs one sandbox for that day. Returns by how much it grew once it was warm, in kB.
async fn live(day: &Day) -> i64 {
    let begin = Instant::now();
    let mut world = World::empty().await;
    world.follow((0..GROUPS).map(|index| (own_endpoint(index), group_arn(index as u64))));
    world.set("EVENT_POLL_SECONDS", "0");
    let mut sandbox = world.process().await;
    let (mut warm, mut outcomes) = (0, BTreeMap::new());
    println!("{:>11} {:>8} {:>8}", "invocations", "now", "most");
    for n in 1..=day.invocations {
        heal(&world, n);
        let timeout = (day.disturb)(&world, n);
        let event = EVENTS[n as usize % EVENTS.len()];
        let answer = sandbox.invoke(event, timeout).await;
        *outcomes.entry(kind(&answer)).or_insert(0) += 1;
        if n == day.warm {
            warm = occupied(&sandbox, "VmRSS");
        }
        if PRINTED.contains(&n) {
            let (now, most) = (occupied(&sandbox, "VmRSS"), occupied(&sandbox, "VmHWM"));
            println!("{n:>11} {now:>8} {most:>8}");
        }
    }
    println!("in {} s: {outcomes:?}", begin.elapsed().as_secs());
    assert!(outcomes.keys().eq(day.outcomes), "something did not happen");
    occupied(&sandbox, "VmRSS") as i64 - warm as i64
}

fn kind(answer: &Answer) -> String {
    match &answer.outcome {
        Ok(_) => "success".to_owned(),
        Err(error) => error["errorType"].as_str().expect("a type").to_owned(),
    }
}

/// Returns the line with this name of `/proc/<pid>/status`, in kB.
fn occupied(sandbox: &Process, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.id()));
    let status = status.expect("a process that lives");
    let line = status.lines().find(|line| line.starts_with(what));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.expect("a value").parse().expect("a number")
}

/// Lets nothing fail, and moves all endpoints in every tenth invocation. Each group then gets a target that this
/// sandbox did not register a moment ago, so the failover is not doubtful and nothing has to wait for it. Forgets the
/// earlier questions, calls and data.
fn heal(world: &World, n: u32) {
    let node = node(n);
    for index in 0..GROUPS {
        if n == 1 || n.is_multiple_of(10) {
            let arn = group_arn(index as u64);
            let mut group = TargetGroup::ipv4(&arn, PORT);
            group.deregistration_delay = Duration::ZERO;
            world.aws.add(group);
            world.aws.settle(&arn, "10.0.0.8", PORT);
        }
        world.point_one(index, &node);
    }
    world.aws.heal();
    world.zone.take_asked();
    world.aws.take_calls();
    world.aws.take_data();
}

/// Sets what is answered for the first endpoint.
fn answer(world: &World, answer: dns::Answer) {
    world.zone.set(&own_endpoint(0), answer);
}

/// Returns where the endpoints are at the n-th invocation.
fn node(n: u32) -> String {
    format!("10.0.{}.7", n / 10 % 256)
}

fn mixed(world: &World, n: u32) -> Duration {
    let stranger = (own_endpoint(0), [1, 1, 1, 1].into());
    let garbage = Fault::Garbage(200, "<html>");
    match n % 20 {
        1 => answer(world, dns::Answer::NxDomain),
        3 => answer(world, dns::Answer::ServFail),
        5 => answer(
            world,
            dns::Answer::Records(ResponseCode::NoError, vec![stranger]),
        ),
        7 => answer(
            world,
            dns::Answer::Truncated(Box::new(addresses([&node(n)]))),
        ),
        9 => answer(world, dns::Answer::Empty),
        10 => world.aws.inject("RegisterTargets", DENIED),
        11 => world.aws.inject("DescribeTargetHealth", DENIED),
        13 => world.aws.inject("DescribeTargetHealth", garbage),
        15 => world.aws.inject("PutMetricData", DENIED),
        _ => return seldom(world, n),
    }
    TIMEOUT
}

/// Causes the rarer faults, which take time: calls that are retried, calls that hang, and a deregistration that fails,
/// so that the next invocation doubts it. Returns the timeout of the invocation.
fn seldom(world: &World, n: u32) -> Duration {
    match n % 400 {
        2 => world.aws.inject("DescribeTargetHealth", Fault::Reset),
        102 => world.aws.inject("DescribeTargetHealth", THROTTLED),
        202 => world.aws.inject("PutMetricData", Fault::LostAnswer),
        300 if n % 2_000 == 300 => world.aws.inject("DeregisterTargets", DENIED),
        _ => (),
    }
    match n % 400 {
        4 => world.aws.inject("DescribeTargetHealth", Fault::Hang),
        104 => world.aws.inject("PutMetricData", Fault::Hang),
        204 => answer(world, dns::Answer::Silent),
        _ => return TIMEOUT,
    }
    SHORT
}
