//! Measures how soon a failover is seen: the time from the change in DNS to the arrival of `RegisterTargets`. It
//! measures the real binary on the wall clock, in each mode, over failovers at evenly spread moments. DNS and Elastic
//! Load Balancing are stand-ins on loopback that answer at once and cache nothing, so what is measured is the
//! function's own part.

use std::time::Duration;

use futures_util::future::join_all;
use stand_in::lambda::{NOTIFICATION, SCHEDULE, Sandbox, TIMEOUT};
use stand_in::world::World;
use tokio::join;
use tokio::time::{Instant, sleep_until};

const FAILOVERS: u32 = 30;
const OLD: &str = "10.0.1.7";
const NEW: &str = "10.0.2.9";

struct Mode {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    event: &'static str,
    /// The longest time between two reconciles.
    interval: Duration,
    /// The time from the beginning of the first invocation to that of the second. If it is `None`, there is only one
    /// invocation.
    again_after: Option<Duration>,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "a notification",
        variables: &[("EVENT_POLL_SECONDS", "6")],
        event: NOTIFICATION,
        interval: Duration::from_secs(1),
        again_after: None,
    },
    Mode {
        name: "polling every 5 s",
        variables: &[("SCHEDULE_POLL_SECONDS", "12")],
        event: SCHEDULE,
        interval: Duration::from_secs(5),
        again_after: None,
    },
    Mode {
        name: "once a minute",
        variables: &[],
        event: SCHEDULE,
        interval: Duration::from_secs(60),
        again_after: Some(Duration::from_secs(60)),
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!(
        "From the change in DNS to RegisterTargets, {FAILOVERS} failovers in each mode, each from a healthy"
    );
    println!("target and at another moment between two reconciles. Takes a minute and a half.\n");
    println!(
        "{:<18} {:>9} {:>9} {:>9} {:>9} {:>9} {:>14}",
        "seconds", "least", "median", "90 %", "most", "interval", "most/interval"
    );
    for mode in MODES {
        let failovers = (0..FAILOVERS).map(|index| fail_over(&mode, index));
        let mut latencies = join_all(failovers).await;
        latencies.sort();
        let at = |share: f64| {
            let last = latencies.len() - 1;
            latencies[(share * last as f64).round() as usize].as_secs_f64()
        };
        let (most, interval) = (at(1.0), mode.interval.as_secs_f64());
        println!(
            "{:<18} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.0} {:>14.3}",
            mode.name,
            at(0.0),
            at(0.5),
            at(0.9),
            most,
            interval,
            most / interval
        );
    }
}

/// Plays one failover in a world of its own, at the `index`-th of evenly spread moments between two reconciles.
async fn fail_over(mode: &Mode, index: u32) -> Duration {
    let mut world = World::settled(OLD).await;
    for (variable, value) in mode.variables {
        world.set(variable, value);
    }
    let mut sandbox = world.sandbox().await;
    // The sandbox gets to know the group before anything is measured.
    invoke(&mut sandbox, r#"{"dryRun":true}"#).await;
    assert_eq!(world.group(), [format!("{OLD}:6379 healthy")]);
    world.aws.take_calls();

    let begin = Instant::now();
    let phase = mode.interval * (2 * index + 1) / (2 * FAILOVERS);
    let invocations = async {
        invoke(&mut sandbox, mode.event).await;
        if let Some(again_after) = mode.again_after {
            sleep_until(begin + again_after).await;
            invoke(&mut sandbox, mode.event).await;
        }
    };
    let move_on = async {
        // If there are more than two reconciles, the name moves after the second one.
        let seen = if mode.again_after.is_some() { 0 } else { 1 };
        sleep_until(begin + seen * mode.interval + phase).await;
        world.point(NEW);
        Instant::now()
    };
    let ((), moved) = join!(invocations, move_on);
    let calls = world.aws.take_calls();
    let registered = calls.iter().find(|call| call.action == "RegisterTargets");
    registered.expect("the failover was seen").at - moved
}

async fn invoke(sandbox: &mut Sandbox, event: &str) {
    let answer = sandbox.invoke(event, TIMEOUT).await;
    answer.outcome.expect("an invocation that succeeded");
}
