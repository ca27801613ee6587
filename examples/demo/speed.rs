//! The second act: one failover, seen in each mode. Time is virtual here, so that a minute takes none of
//! the reader's.

use std::time::{Duration, SystemTime};

use anstream::println;
use stand_in::world::{CALL_LATENCY, DNS_LATENCY, ENDPOINT, World};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{BAD, FAINT, GOOD, NAME, TITLE, line};

/// The endpoint moves that long after a scheduled invocation.
const MOVES_AT: Duration = Duration::from_millis(63_300);
/// The cluster tells that long before the name moves.
const NOTIFIED_BEFORE: Duration = Duration::from_millis(2600);

struct Mode {
    name: &'static str,
    /// What is set, as a parameter of the template.
    parameter: &'static str,
    variables: &'static [(&'static str, &'static str)],
    is_notified: bool,
    /// The longest time between two reconciles.
    interval: Duration,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "once a minute   ",
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
    let mut world = World::in_memory(SystemTime::now());
    world.settle("10.0.1.7");
    world.zone.set_latency(DNS_LATENCY);
    world.aws.set_latency(CALL_LATENCY);
    for (variable, value) in mode.variables {
        world.set(variable, value);
    }
    let function = world.function();

    let begin = Instant::now();
    let scheduled = async {
        for minute in 0..3 {
            sleep_until(begin + minute * Duration::from_secs(60)).await;
            let outcome = function.schedule().await;
            outcome.expect("an invocation that succeeded");
        }
    };
    let notified = async {
        if mode.is_notified {
            sleep(MOVES_AT - NOTIFIED_BEFORE).await;
            let outcome = function.notify().await;
            outcome.expect("an invocation that succeeded");
        }
    };
    let moves = async {
        sleep(MOVES_AT).await;
        world.point("10.0.2.9");
        Instant::now()
    };
    let ((), (), moved) = join!(scheduled, notified, moves);
    let calls = world.aws.take_calls();
    let registered = calls.iter().find(|call| call.action == "RegisterTargets");
    registered.map_or(Duration::MAX, |call| call.at - moved)
}
