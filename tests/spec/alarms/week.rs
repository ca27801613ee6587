//! Records a week of the function, as CloudWatch has it. The real handler plays the hours in which something happens,
//! in virtual time, and what it publishes is recorded. In the other minutes each invocation is a quiet one.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::TimeSource;
use futures_util::future::join_all;
use stand_in::dns::{self, Answer};
use stand_in::lambda::QUEUE;
use stand_in::world::{ARN, ENDPOINT, Function, OTHER_ARN, OTHER_ENDPOINT, PORT, World};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::reading::DENIED;

/// Monday 0:00 is minute 0.
pub const WEEK: usize = 7 * DAY;
const DAY: usize = 24 * 60;
/// The hours that are played begin on Wednesday at 10:00. Something happens after twenty minutes.
pub const EPISODE: usize = 2 * DAY + 10 * 60;
pub const EVENT: usize = EPISODE + 20;
/// The number of minutes that are played. The alarms of the slowest schedule have time to fire, and to end.
const EPISODE_LENGTH: usize = 100;
/// The number of minutes that a trouble lasts.
pub const TROUBLE_LENGTH: usize = 40;

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
/// The time from the minute in which a story begins until its name moves.
const MOVE: Duration = Duration::from_secs(7);

/// The schedule on which the function is invoked, and what the alarms know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub expression: &'static str,
    pub alarm_minutes: &'static str,
    pub pauses: &'static str,
}

pub const SCHEDULES: [Schedule; 3] = [
    Schedule::new("rate(1 minute)", "5", "false"),
    Schedule::new("rate(5 minutes)", "17", "false"),
    Schedule::new("cron(0/2 8-18 ? * MON-FRI *)", "8", "true"),
];

impl Schedule {
    const fn new(
        expression: &'static str,
        alarm_minutes: &'static str,
        pauses: &'static str,
    ) -> Self {
        Self {
            expression,
            alarm_minutes,
            pauses,
        }
    }

    /// Returns the minutes of the week in which the schedule invokes. EventBridge may be up to a minute late.
    pub fn minutes(&self, is_jittery: bool) -> Vec<usize> {
        let is_due = |minute: &usize| match self.expression {
            "rate(1 minute)" => true,
            "rate(5 minutes)" => minute.is_multiple_of(5),
            "cron(0/2 8-18 ? * MON-FRI *)" => {
                let (day, hour) = (minute / DAY, minute % DAY / 60);
                minute.is_multiple_of(2) && (8..=18).contains(&hour) && day < 5
            }
            other => panic!("{other} is unknown"),
        };
        let due = (0..WEEK).filter(is_due).enumerate();
        due.map(|(index, minute)| minute + usize::from(is_jittery && index % 4 == 1))
            .collect()
    }
}

/// The way in which the function notices that the name has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Scheduled,
    Polling,
    /// The seconds from the move to each notification.
    Notified(&'static [u64]),
}

pub const MODES: [Mode; 4] = [
    Mode::Scheduled,
    Mode::Polling,
    Mode::Notified(&[0]),
    Mode::Notified(&[0, 25]),
];

/// The story of a week, which says what happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    Quiet,
    /// The new target is initial for this many seconds.
    Failover(u64),
    /// Two groups move, a minute apart.
    StaggeredFailovers,
    /// One reconcile fails.
    FailedReconcile,
    DryRun,
    NewStack,
    Unhealthy,
    DnsOutage,
    /// An answer is doubted for longer than any invocation lasts.
    HeldBack,
    BadSetting,
    CloudWatchOutage,
    Stopped,
    /// Somebody deregisters the target every two minutes.
    Fought,
    /// A new target never leaves `initial`.
    InitialForEver,
}

/// The values of each metric in each minute of the week.
pub type Record = BTreeMap<&'static str, Vec<Vec<f64>>>;

const METRICS: [&str; 5] = [
    "Invocations",
    "Errors",
    "Failover",
    "ReconcileFailure",
    "NoHealthyTarget",
];

/// The sandbox that is invoked while a trouble lasts.
enum Sandbox {
    Sound,
    Other(Function),
    Absent,
}

/// Returns what CloudWatch has of the week.
pub async fn record(schedule: Schedule, mode: Mode, story: Story, is_jittery: bool) -> Record {
    let mut record: Record = METRICS
        .map(|metric| (metric, vec![Vec::new(); WEEK + 1]))
        .into();
    let mut invoked = schedule.minutes(is_jittery);
    if story == Story::NewStack {
        invoked.retain(|minute| *minute > EVENT);
    }
    let (played, quiet): (Vec<_>, Vec<_>) = invoked
        .into_iter()
        .partition(|minute| (EPISODE..EPISODE + EPISODE_LENGTH).contains(minute));
    for minute in quiet {
        for (metric, minutes) in &mut record {
            minutes[minute].push(f64::from(u8::from(*metric == "Invocations")));
        }
    }
    play(&mut record, &played, mode, story).await;
    record
}

async fn play(record: &mut Record, invoked: &[usize], mode: Mode, story: Story) {
    let mut world = prepared(story).await;
    if mode == Mode::Polling {
        world.set("SCHEDULE_POLL_SECONDS", 55);
    }
    let sound = [world.function(), world.function()];
    let during = sandbox(&mut world, story);
    let since_epoch = world
        .clock
        .now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let to_the_minute = Duration::from_secs(60 - since_epoch.as_secs() % 60);
    sleep(to_the_minute).await;
    let (begin, began_at) = (Instant::now(), world.clock.now());
    let at = |minute: usize| begin + Duration::from_secs(60 * (minute - EPISODE) as u64);

    let scheduled = invoked.iter().enumerate().map(async |(index, minute)| {
        sleep_until(at(*minute)).await;
        let is_troubled = (EVENT..EVENT + TROUBLE_LENGTH).contains(minute);
        let outcome = match &during {
            Sandbox::Other(function) if is_troubled => function.schedule().await,
            Sandbox::Absent if is_troubled => return None,
            _ => sound[index % 2].schedule().await,
        };
        Some((*minute, outcome.is_err()))
    });
    let notifications = match mode {
        Mode::Notified(seconds) => seconds,
        Mode::Scheduled | Mode::Polling => &[],
    };
    let notified = notifications.iter().map(async |seconds| {
        sleep_until(at(EVENT) + MOVE + Duration::from_secs(*seconds)).await;
        let function = world.function();
        function.invoke(QUEUE).await.expect("a report");
        Some((EVENT, false))
    });
    let (scheduled, notified, ()) = join!(
        join_all(scheduled),
        join_all(notified),
        happen(&world, story, at(EVENT), at(EVENT + TROUBLE_LENGTH))
    );
    let mut push = |metric: &str, minute: usize, values: &[f64]| {
        record.get_mut(metric).expect("a metric of the function")[minute].extend(values);
    };
    for (minute, is_error) in scheduled.into_iter().chain(notified).flatten() {
        push("Invocations", minute, &[1.0]);
        push("Errors", minute, &[f64::from(u8::from(is_error))]);
    }
    for datum in world.aws.take_data() {
        if datum.dimensions[0].0 == "FunctionName" {
            let since = datum.timestamp.duration_since(began_at);
            let minute = since.expect("it is published later").as_secs() / 60;
            push(&datum.metric, EPISODE + minute as usize, &datum.samples);
        }
    }
}

/// Makes a world with one group whose name is at A, or with two groups. Everything has been quiet for a long time.
async fn prepared(story: Story) -> World {
    let mut world = World::settled_in_memory(A, 5).await;
    match story {
        Story::Failover(seconds) => world.aws.target_group(ARN, |group| {
            group.registration_lag = Duration::from_secs(seconds);
        }),
        Story::StaggeredFailovers => {
            world.follow([(ENDPOINT, ARN), (OTHER_ENDPOINT, OTHER_ARN)]);
            world.zone.set(OTHER_ENDPOINT, dns::addresses([A]));
            world.aws.settle(OTHER_ARN, A, PORT);
        }
        Story::HeldBack => {
            world.aws.settle(ARN, B, PORT);
            world.zone.set(ENDPOINT, dns::addresses([A, B]));
        }
        _ => (),
    }
    world
}

fn sandbox(world: &mut World, story: Story) -> Sandbox {
    let (variable, value) = match story {
        Story::BadSetting => ("TARGET_PORT", "http"),
        Story::DryRun => ("DRY_RUN", "true"),
        Story::Stopped => return Sandbox::Absent,
        _ => return Sandbox::Sound,
    };
    world.set(variable, value);
    let function = world.function();
    world.variables.remove(variable);
    Sandbox::Other(function)
}

async fn happen(world: &World, story: Story, begin: Instant, end: Instant) {
    let dictate = |state| {
        world.aws.target_group(ARN, |group| {
            group.dictate(A.parse().expect("an address"), PORT, state);
        });
    };
    sleep_until(begin).await;
    match story {
        Story::Quiet | Story::NewStack | Story::BadSetting | Story::DryRun | Story::Stopped => (),
        Story::Failover(_) => {
            sleep(MOVE).await;
            world.point(B);
        }
        Story::StaggeredFailovers => {
            sleep(MOVE).await;
            world.point(B);
            sleep(Duration::from_secs(60)).await;
            world.zone.set(OTHER_ENDPOINT, dns::addresses([B]));
        }
        Story::FailedReconcile => world.aws.inject("DescribeTargetHealth", DENIED),
        Story::InitialForEver => {
            world.aws.target_group(ARN, |group| {
                group.registration_lag = Duration::from_secs(60 * WEEK as u64);
            });
            world.point(B);
        }
        Story::Unhealthy => {
            dictate("unhealthy");
            sleep_until(end).await;
            dictate("healthy");
        }
        Story::DnsOutage => {
            world.answer(Answer::NxDomain);
            sleep_until(end).await;
            world.point(A);
        }
        Story::HeldBack => {
            let addresses = vec![A.parse().expect("an address")];
            let ttl = 4 * 60 * 60;
            world.answer(Answer::Addresses { ttl, addresses });
            sleep_until(end).await;
            world.zone.set(ENDPOINT, dns::addresses([A, B]));
        }
        Story::CloudWatchOutage => {
            world.aws.inject_always("PutMetricData", DENIED);
            sleep_until(end).await;
            world.aws.heal();
        }
        Story::Fought => {
            while Instant::now() < end {
                world.aws.deregister(ARN, A, PORT);
                sleep(Duration::from_secs(120)).await;
            }
        }
    }
}
