//! The second act: one failover, seen by each way of looking. Time is virtual here, so that a minute
//! takes none of the reader's.

use std::net::SocketAddr;
use std::time::Duration;

use anstream::println;
use nlb_hostname_target::function::Function;
use stand_in::aws::Aws;
use stand_in::dns::{Zone, addresses};
use stand_in::elb::TargetGroup;
use stand_in::memory::{Http, Network};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{ARN, BAD, ENDPOINT, FAINT, GOOD, NAME, SCHEDULE, TITLE, event, line, sdk, settings};

const DNS_SERVER: &str = "10.0.0.2:53";
const DNS_LATENCY: Duration = Duration::from_millis(5);
const CALL_LATENCY: Duration = Duration::from_millis(40);
/// The endpoint moves that long after a tick.
const MOVES_AT: Duration = Duration::from_millis(63_300);
/// The cluster tells that long before the name moves.
const NOTIFIED_BEFORE: Duration = Duration::from_millis(2600);

const NOTIFICATION: &str = include_str!("../../events/notification.json");

struct Mode {
    name: &'static str,
    /// What is set, as a parameter of the template.
    parameter: &'static str,
    variables: &'static [(&'static str, &'static str)],
    is_notified: bool,
    /// The longest time between two looks.
    interval: Duration,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "a look a minute ",
        parameter: "the default",
        variables: &[],
        is_notified: false,
        interval: Duration::from_secs(60),
    },
    Mode {
        name: "polling         ",
        parameter: "SchedulePollSeconds=55",
        variables: &[("SCHEDULE_POLL_SECONDS", "55")],
        is_notified: false,
        interval: Duration::from_secs(5),
    },
    Mode {
        name: "a notification  ",
        parameter: "FailoverTopicArn",
        variables: &[],
        is_notified: true,
        interval: Duration::from_secs(1),
    },
];

/// Whether each mode saw it in its time.
pub async fn tell() -> bool {
    println!();
    println!("{TITLE}How soon{TITLE:#}");
    println!(
        "   The same failover, seen in three ways: {NAME}{ENDPOINT}{NAME:#} moves 3.3 s after the rule fired."
    );
    println!(
        "   {FAINT}Time is virtual from here: DNS takes {} ms and a call {} ms, a minute takes nothing.{FAINT:#}",
        DNS_LATENCY.as_millis(),
        CALL_LATENCY.as_millis()
    );
    let mut is_held = true;
    for mode in MODES {
        let latency = fail_over(&mode).await;
        let is_in_time = latency <= mode.interval + CALL_LATENCY;
        let (style, word) = if is_in_time {
            (GOOD, "ok")
        } else {
            (BAD, "LATE")
        };
        line(&format!(
            "{} {:6.2} s from DNS to RegisterTargets  {style}{word}{style:#}: at most {} s  {FAINT}{}{FAINT:#}",
            mode.name,
            latency.as_secs_f64(),
            mode.interval.as_secs(),
            mode.parameter
        ))
        .await;
        is_held &= is_in_time;
    }
    is_held
}

/// From the change in DNS to the arrival of `RegisterTargets`.
async fn fail_over(mode: &Mode) -> Duration {
    let (zone, aws) = (Zone::default(), Aws::default());
    zone.set(ENDPOINT, addresses(["10.0.1.7"]));
    zone.set_latency(DNS_LATENCY);
    aws.set_latency(CALL_LATENCY);
    aws.add(TargetGroup::ipv4(ARN, 6379));
    aws.register(ARN, "10.0.1.7", 6379);
    let server: SocketAddr = DNS_SERVER.parse().expect("an address with a port");
    let variable = |name: &str| {
        let set = mode
            .variables
            .iter()
            .find(|(variable, _)| *variable == name);
        let set = set.map(|(_, value)| (*value).to_owned());
        set.or_else(|| settings(name, server))
    };
    let http = sdk().http_client(Http(aws.clone())).load().await;
    let network = Network::new([(server, (&zone).into())]);
    let function = Function::new(variable, &http, network);

    let begin = Instant::now();
    let looks = async {
        for minute in 0..3 {
            sleep_until(begin + minute * Duration::from_secs(60)).await;
            let looked = function.handle(event(SCHEDULE)).await;
            looked.expect("an invocation that succeeded");
        }
    };
    let notified = async {
        if mode.is_notified {
            sleep(MOVES_AT - NOTIFIED_BEFORE).await;
            let looked = function.handle(event(NOTIFICATION)).await;
            looked.expect("an invocation that succeeded");
        }
    };
    let moves = async {
        sleep(MOVES_AT).await;
        zone.set(ENDPOINT, addresses(["10.0.2.9"]));
        Instant::now()
    };
    let ((), (), moved) = join!(looks, notified, moves);
    let calls = aws.take_calls();
    let registered = calls.iter().find(|call| call.action == "RegisterTargets");
    registered.map_or(Duration::MAX, |call| call.at - moved)
}
