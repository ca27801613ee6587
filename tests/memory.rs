//! Whether one sandbox needs more memory the longer it lives: what the real binary occupies, as Linux
//! counts it, over 10,000 invocations of a mixed day, on which all happens: failovers, failures of DNS,
//! of Elastic Load Balancing and of CloudWatch, invocations cut by their deadline. And over a day on
//! which CloudWatch is out of reach all the time, and what is not published is kept until there is too
//! much of it.
//!
//! A program of its own, so that what it measured is seen also when it passes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stand_in::aws::{Aws, Fault};
use stand_in::dns::{self, ResponseCode, Zone, addresses};
use stand_in::elb::TargetGroup;
use stand_in::http;
use stand_in::lambda::{Answer, Sandbox};

/// From this invocation on it may not grow: by then there is too much to be kept.
const WARM: u32 = 3_000;
const PRINTED: [u32; 6] = [100, 1_000, 2_000, WARM, 5_000, 10_000];
/// In kB. Of 7,000 invocations each would have to leave 37 bytes.
const TOLERATED: i64 = 256;
const GROUPS: u32 = 2;
/// Lambda's `Timeout` in the template, and one that cuts off what hangs.
const TIMEOUT: Duration = Duration::from_secs(75);
const SHORT: Duration = Duration::from_millis(300);
const EVENTS: [&str; 6] = [
    include_str!("../events/schedule.json"),
    "{}",
    "null",
    include_str!("../events/dry-run.json"),
    include_str!("../events/notification.json"),
    "[\"of another type\"]",
];
const DENIED: Fault = Fault::Error(403, "AccessDenied", "no");
const THROTTLED: Fault = Fault::Error(400, "Throttling", "Rate exceeded");

/// So many invocations of one sandbox.
struct Day {
    name: &'static str,
    invocations: u32,
    /// What is expected to come of them, in alphabetic order.
    outcomes: &'static [&'static str],
    /// Whether metrics are taken.
    is_published: bool,
    /// Makes the n-th invocation what it is, and says what time it has.
    disturb: fn(&World, u32) -> Duration,
}

const DAYS: [Day; 2] = [
    Day {
        name: "A mixed day",
        invocations: 10_000,
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
        is_published: true,
        disturb: mixed,
    },
    Day {
        name: "A day without CloudWatch",
        invocations: 4_000,
        outcomes: &["PublishFailed", "success"],
        is_published: false,
        disturb: |_, _| TIMEOUT,
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if is_filtered_out() {
        println!("not asked for: the memory of a sandbox");
        return;
    }
    if !cfg!(target_os = "linux") {
        println!("NOT MEASURED: the memory of a sandbox, which is read from Linux's /proc");
        return;
    }
    for day in DAYS {
        println!(
            "\n{}: what one sandbox occupies, and the most until then, in kB",
            day.name
        );
        let grown = live(&day).await;
        println!("from invocation {WARM} on {grown:+}");
        assert!(grown <= TOLERATED, "it grows");
    }
}

/// Cargo hands over which tests are wanted, by parts of their names. This one has no name.
fn is_filtered_out() -> bool {
    std::env::args()
        .skip(1)
        .any(|argument| !argument.starts_with('-'))
}

struct World {
    zone: Zone,
    aws: Aws,
    dns: dns::Server,
    http: http::Server,
    /// Denies whatever is asked, without a look at it.
    denying: http::Server,
}

/// Lets a sandbox live for that day; by how much it grew once it was warm.
async fn live(day: &Day) -> i64 {
    let begin = Instant::now();
    let world = World::new().await;
    let mut sandbox = world.sandbox(day).await;
    let (mut warm, mut outcomes) = (0, BTreeMap::new());
    println!("{:>11} {:>8} {:>8}", "invocations", "now", "most");
    for n in 1..=day.invocations {
        world.heal(n);
        let timeout = (day.disturb)(&world, n);
        let event = EVENTS[n as usize % EVENTS.len()];
        let answer = sandbox.invoke(event, timeout).await;
        *outcomes.entry(kind(&answer)).or_insert(0) += 1;
        if n == WARM {
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

/// In kB.
fn occupied(sandbox: &Sandbox, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.id()));
    let status = status.expect("a process that lives");
    let line = status.lines().find(|line| line.starts_with(what));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.expect("a value").parse().expect("a number")
}

fn endpoint(index: u32) -> String {
    format!("{index}.redis.example.com")
}

fn arn(index: u32) -> String {
    format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/g/{index:016x}")
}

fn all(of: fn(u32) -> String) -> String {
    (0..GROUPS).map(of).collect::<Vec<_>>().join(",")
}

impl World {
    /// Each endpoint feeds a group of its own.
    async fn new() -> World {
        let (zone, aws) = (Zone::default(), Aws::default());
        let (dns, http) = (dns::Server::start(&zone).await, aws.serve().await);
        World {
            zone,
            aws,
            dns,
            http,
            denying: http::Server::start(async |_| Some(denied())).await,
        }
    }

    async fn sandbox(&self, day: &Day) -> Sandbox {
        let cloudwatch = if day.is_published {
            &self.http
        } else {
            &self.denying
        };
        let url = |server: &http::Server| format!("http://{}", server.address);
        let variables = [
            ("ENDPOINTS", all(endpoint)),
            ("TARGET_GROUP_ARNS", all(arn)),
            ("DNS_SERVERS", self.dns.address.to_string()),
            ("EVENT_POLL_SECONDS", "0".to_owned()),
            ("AWS_ENDPOINT_URL", url(&self.http)),
            ("AWS_ENDPOINT_URL_CLOUDWATCH", url(cloudwatch)),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into()));
        Sandbox::start(&binary(), &variables).await
    }

    /// Nothing fails, and every tenth invocation all endpoints have moved. Each group then has a target
    /// that this sandbox did not register a moment ago, so the failover is not doubtful and need not be
    /// waited for. Forgets what was called.
    fn heal(&self, n: u32) {
        let node = node(n);
        for index in 0..GROUPS {
            if n == 1 || n.is_multiple_of(10) {
                let mut group = TargetGroup::ipv4(&arn(index), 6379);
                group.deregistration_delay = Duration::ZERO;
                self.aws.add(group);
                self.aws.register(&arn(index), "10.0.0.8", 6379);
            }
            self.zone.set(&endpoint(index), addresses([&node]));
        }
        self.aws.heal();
        self.zone.take_asked();
        self.aws.take_calls();
        self.aws.take_data();
    }

    fn answer(&self, answer: dns::Answer) {
        self.zone.set(&endpoint(0), answer);
    }
}

fn denied() -> http::Response {
    let mut response = http::Response::default();
    *response.status_mut() = ::http::StatusCode::FORBIDDEN;
    response
}

/// Where the endpoints are at the n-th invocation.
fn node(n: u32) -> String {
    format!("10.0.{}.7", n / 10 % 256)
}

fn mixed(world: &World, n: u32) -> Duration {
    let stranger = (endpoint(0), [1, 1, 1, 1].into());
    let garbage = Fault::Garbage(200, "<html>");
    match n % 20 {
        1 => world.answer(dns::Answer::NxDomain),
        3 => world.answer(dns::Answer::ServFail),
        5 => world.answer(dns::Answer::Records(ResponseCode::NoError, vec![stranger])),
        7 => world.answer(dns::Answer::Truncated(Box::new(addresses([&node(n)])))),
        9 => world.answer(dns::Answer::Empty),
        10 => world.aws.inject("RegisterTargets", DENIED),
        11 => world.aws.inject("DescribeTargetHealth", DENIED),
        13 => world.aws.inject("DescribeTargetHealth", garbage),
        15 => world.aws.inject("PutMetricData", DENIED),
        _ => return seldom(world, n),
    }
    TIMEOUT
}

/// What takes its time: what is tried again, what hangs, and what leaves somebody to deregister of
/// whom the next invocation is in doubt.
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
        204 => world.answer(dns::Answer::Silent),
        _ => return TIMEOUT,
    }
    SHORT
}

/// The one that `make test` built for release, else cargo's.
fn binary() -> PathBuf {
    let built = std::env::var_os("FUNCTION_BINARY");
    built.map_or_else(
        || env!("CARGO_BIN_EXE_nlb-hostname-target").into(),
        PathBuf::from,
    )
}
