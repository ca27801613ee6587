//! The invariants, checked on what happened, entry by entry. It knows the contract and nothing of the
//! code: what DNS and Elastic Load Balancing answered says what the function may do next.

mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::cloudwatch::Datum;
use stand_in::elb::TargetHealth;

use crate::history::{Call, Entry, Life, Line, What};
use crate::play::{self, PORT, endpoint, kept, node};
use crate::sequence::{Event, Setting};
use reconcile::{Followed, targets};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub text: String,
    pub at: Duration,
}

type Broken = (&'static str, String);

fn broken(promise: &'static str, text: impl Into<String>) -> Result<(), Broken> {
    Err((promise, text.into()))
}

/// A change of somebody else's that no run under way has seen.
const UNSEEN: Duration = Duration::from_secs(15);
/// Before Lambda's own timeout.
const LATEST_ANSWER: Duration = Duration::from_millis(74_500);

/// What came to the service.
#[derive(Debug)]
struct Arrival {
    outcome: String,
    group: Vec<TargetHealth>,
    data: Vec<Datum>,
}

/// What metrics count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    reconciles: u32,
    failovers: u32,
    failures: u32,
}

/// A sandbox, and the invocation that runs in it.
#[derive(Debug, Default)]
struct Running {
    begun: Duration,
    event: Option<Event>,
    groups: BTreeMap<String, Followed>,
    is_publishing_failed: bool,
    /// What happened in it and is to be published.
    happened: Sums,
    unsure_failovers: u32,
    /// What CloudWatch acknowledged.
    published: Sums,
    is_lost: bool,
}

#[derive(Debug, Default)]
struct Group {
    live: BTreeSet<SocketAddr>,
    meddled: Option<Duration>,
}

pub struct Checker<'a> {
    setting: &'a Setting,
    now: Duration,
    lives: BTreeMap<Life, Running>,
    groups: BTreeMap<String, Group>,
    calls: BTreeMap<u64, (Call, Option<Arrival>)>,
    at: BTreeMap<String, Vec<IpAddr>>,
    is_healed: bool,
    is_settled: bool,
}

/// The first promise that was broken.
pub fn check(setting: &Setting, history: &[Entry]) -> Result<(), Violation> {
    let mut checker = Checker {
        setting,
        now: Duration::ZERO,
        lives: BTreeMap::new(),
        groups: BTreeMap::new(),
        calls: BTreeMap::new(),
        at: BTreeMap::new(),
        is_healed: false,
        is_settled: false,
    };
    for entry in history {
        checker.now = entry.at;
        let seen = checker.see(&entry.what);
        seen.map_err(|broken| checker.violation(broken))?;
    }
    let finished = checker.finish();
    finished.map_err(|broken| checker.violation(broken))
}

impl Checker<'_> {
    fn violation(&self, (promise, text): Broken) -> Violation {
        let at = self.now;
        Violation { promise, text, at }
    }

    fn see(&mut self, what: &What) -> Result<(), Broken> {
        match what {
            What::Moved { endpoint, to, .. } => {
                self.at.insert(endpoint.clone(), to.clone());
            }
            What::Meddled { arn, group, .. } => {
                let known = self.groups.entry(arn.clone()).or_default();
                known.meddled = Some(self.now);
                known.live = targets(group, |target| target.state != "draining");
            }
            What::Begun { life, event } => self.begin(*life, *event),
            What::Disturbed { .. } => (),
            What::Answered {
                life,
                name,
                addresses,
                ttl,
                ..
            } => {
                self.answered(*life, name, addresses, self.now + *ttl);
            }
            What::Called(call) => return self.called(call),
            What::Arrived {
                call,
                outcome,
                group,
                data,
                ..
            } => {
                return self.arrived(*call, outcome, group, data);
            }
            What::Returned { call } => return self.returned(*call),
            What::Logged { life, line } => return self.logged(*life, line),
            What::Ended { life, error } => return self.ended(*life, error.as_deref()),
            What::Lost { life } => {
                let running = self.running(*life);
                (running.is_lost, running.event) = (true, None);
            }
            What::TimedOut { life } => {
                return broken("I11", format!("{life}: Lambda had to end the invocation"));
            }
            What::Healed => self.is_healed = true,
            What::Settled { groups } => {
                self.is_settled = true;
                return groups
                    .iter()
                    .try_for_each(|(arn, group)| self.settled(arn, group));
            }
        }
        Ok(())
    }

    fn running(&mut self, life: Life) -> &mut Running {
        self.lives.entry(life).or_default()
    }

    fn begin(&mut self, life: Life, event: Event) {
        let now = self.now;
        let running = self.running(life);
        (running.begun, running.event) = (now, Some(event));
        running.is_publishing_failed = false;
        for followed in running.groups.values_mut() {
            followed.is_failed = false;
        }
    }

    fn answered(&mut self, life: Life, name: &str, addresses: &[IpAddr], expires: Duration) {
        let setting = self.setting;
        let is_of = |index: &usize| endpoint(*index) == name || node(*index) == name;
        let index = (0..setting.endpoints()).find(is_of).expect("a name");
        let running = self.running(life);
        for group in (0..setting.groups()).map(play::arn) {
            let is_fed = setting
                .feeds
                .iter()
                .any(|feed| feed.0 == index && play::arn(feed.1) == group);
            if let Some(followed) = running.groups.get_mut(&group).filter(|_| is_fed) {
                followed.answered(index, addresses, expires);
            }
        }
    }

    fn called(&mut self, call: &Call) -> Result<(), Broken> {
        let (setting, now, is_settled) = (self.setting, self.now, self.is_settled);
        self.calls.insert(call.id, (call.clone(), None));
        let Call {
            life, action, arn, ..
        } = call;
        let running = self.running(*life);
        let is_change = matches!(action.as_str(), "RegisterTargets" | "DeregisterTargets");
        if is_change && is_settled {
            return broken("I6", format!("{life} changes what is as DNS says"));
        }
        if running.event == Some(Event::DryRun) && (is_change || action == "PutMetricData") {
            return broken("dry run", format!("{life} calls {action}"));
        }
        if action == "PutMetricData" || action == "DescribeTargetGroups" {
            return Ok(());
        }
        let is_counting = running.event == Some(Event::Schedule);
        let followed = running.groups.entry(arn.clone()).or_default();
        match action.as_str() {
            "DescribeTargetHealth" if call.attempt == 1 => {
                followed.begin(now);
                Ok(())
            }
            "RegisterTargets" => followed.registering(call, setting),
            "DeregisterTargets" => followed.deregistering(call, setting, is_counting),
            _ => Ok(()),
        }
    }

    fn arrived(
        &mut self,
        call: u64,
        outcome: &str,
        group: &[TargetHealth],
        data: &[Datum],
    ) -> Result<(), Broken> {
        let now = self.now;
        let (call, arrival) = self.calls.get_mut(&call).expect("a call");
        *arrival = Some(Arrival {
            outcome: outcome.to_owned(),
            group: group.to_vec(),
            data: data.to_vec(),
        });
        if call.arn.is_empty() || call.action == "PutMetricData" {
            return Ok(());
        }
        let known = self.groups.entry(call.arn.clone()).or_default();
        let live = targets(group, |target| target.state != "draining");
        let is_meddled = known.meddled.is_some_and(|meddled| now < meddled + UNSEEN);
        let had = std::mem::replace(&mut known.live, live);
        if known.live.is_empty() && !had.is_empty() && !is_meddled {
            return broken(
                "I2",
                format!("{}: {} leaves nobody who serves", call.life, call.action),
            );
        }
        Ok(())
    }

    /// The answer is known to the one who called.
    fn returned(&mut self, call: u64) -> Result<(), Broken> {
        let (call, arrival) = self.calls.remove(&call).expect("a call");
        let arrival = arrival.expect("it came to the service before");
        let running = self.running(call.life);
        if call.action == "PutMetricData" {
            if arrival.outcome == "Ok" {
                running.is_publishing_failed = false;
                return running.published.add(&arrival.data);
            }
            return Ok(());
        }
        let Some(followed) = running.groups.get_mut(&call.arn) else {
            return Ok(());
        };
        followed.returned(&call, &arrival);
        Ok(())
    }

    fn logged(&mut self, life: Life, line: &Line) -> Result<(), Broken> {
        let setting = self.setting;
        let running = self.running(life);
        match line.message.as_str() {
            message if message.starts_with("cannot publish") => running.is_publishing_failed = true,
            "reconciled" | "reconcile failed" => return running.reconciled(line, setting),
            _ => (),
        }
        Ok(())
    }

    fn ended(&mut self, life: Life, error: Option<&str>) -> Result<(), Broken> {
        let (now, is_healed) = (self.now, self.is_healed);
        let running = self.running(life);
        let took = now - running.begun;
        if took > LATEST_ANSWER {
            return broken("I11", format!("{life} answers after {took:?}"));
        }
        running.event = None;
        let is_failed = running.groups.values().any(|followed| followed.is_failed);
        if error.is_some() != (is_failed || running.is_publishing_failed) {
            let text = format!("{life} answers {error:?}, but by its log it should not");
            return broken("I9", text);
        }
        match error {
            Some(error) if is_healed => {
                broken("convergence", format!("{life} still fails: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn settled(&self, arn: &str, group: &[TargetHealth]) -> Result<(), Broken> {
        let setting = self.setting;
        let index = (0..setting.groups()).find(|index| play::arn(*index) == arn);
        let endpoints = setting.endpoints_of(index.expect("a group")).map(endpoint);
        let desired = endpoints.flat_map(|endpoint| self.at[&endpoint].clone());
        let mut expected: BTreeSet<_> = desired
            .map(|address| SocketAddr::new(address, PORT))
            .collect();
        expected.extend(kept(setting));
        let current = targets(group, |target| target.state != "draining");
        match current == expected {
            true => Ok(()),
            false => broken(
                "convergence",
                format!("{arn} has {current:?}, not {expected:?}"),
            ),
        }
    }

    fn finish(&self) -> Result<(), Broken> {
        let mut unfinished = self
            .lives
            .iter()
            .filter(|(_, running)| running.event.is_some());
        if let Some((life, _)) = unfinished.next() {
            return broken("no panic", format!("{life} never ended"));
        }
        let mut unpublished = self
            .lives
            .iter()
            .filter(|(_, running)| !running.is_published());
        match unpublished.next() {
            None => Ok(()),
            Some((
                life,
                Running {
                    happened,
                    published,
                    ..
                },
            )) => broken(
                "section 6",
                format!("{life}: CloudWatch acknowledged {published:?}, there were {happened:?}"),
            ),
        }
    }
}

impl Running {
    fn reconciled(&mut self, line: &Line, setting: &Setting) -> Result<(), Broken> {
        let event = self.event.expect("an invocation");
        let arn = line.target_group_arn.clone();
        let followed = self.groups.entry(arn).or_default();
        followed.is_failed = line.is_error;
        let is_failover = match line.is_error {
            true => Some(false),
            false => followed.reconciled(line, setting, event)?,
        };
        followed.end();
        if event != Event::DryRun {
            self.happened.reconciles += 1;
            self.happened.failures += u32::from(line.is_error);
            self.happened.failovers += u32::from(is_failover == Some(true));
            self.unsure_failovers += u32::from(is_failover.is_none());
        }
        Ok(())
    }

    /// Whether CloudWatch acknowledged what happened: all of it, unless the sandbox was lost.
    fn is_published(&self) -> bool {
        let Running {
            happened,
            published,
            ..
        } = self;
        let is_within = |low: u32, published: u32, high: u32| {
            (self.is_lost || low <= published) && published <= high
        };
        let most = happened.failovers + self.unsure_failovers;
        is_within(
            happened.reconciles,
            published.reconciles,
            happened.reconciles,
        ) && is_within(happened.failures, published.failures, happened.failures)
            && is_within(happened.failovers, published.failovers, most)
    }
}

impl Sums {
    /// With what was acknowledged. A target group's samples are among the function's, and all that
    /// are not 0 are there.
    fn add(&mut self, data: &[Datum]) -> Result<(), Broken> {
        let sum = |metric, dimension| -> (u32, u32) {
            let data = data.iter().filter(|datum| {
                datum.metric == metric && datum.dimensions.iter().any(|(name, _)| name == dimension)
            });
            data.fold((0, 0), |(count, sum), datum| {
                let samples = datum.samples.iter().sum::<f64>() as u32;
                (count + datum.samples.len() as u32, sum + samples)
            })
        };
        let (reconciles, failovers) = sum("Failover", "FunctionName");
        let (counted, failures) = sum("ReconcileFailure", "FunctionName");
        self.reconciles += reconciles;
        self.failovers += failovers;
        self.failures += failures;
        let of_groups = [
            sum("Failover", "TargetGroup").1,
            sum("ReconcileFailure", "TargetGroup").1,
        ];
        match counted == reconciles && of_groups == [failovers, failures] {
            true => Ok(()),
            false => broken("section 6", "the groups' samples are not the function's"),
        }
    }
}
