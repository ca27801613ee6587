//! The promises, checked on what happened, entry by entry. The checker knows the contract and nothing of the code. It
//! looks at outcomes: where DNS was and what it answered, what Elastic Load Balancing described, and what came of
//! each call. It does not decide by itself what to hold back.

mod change;
mod count;
mod followed;
mod heard;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::cloudwatch::Datum;
use stand_in::elb::TargetHealth;

use crate::history::{Call, Entry, Life, Line, What};
use crate::play::{self, kept};
use crate::sequence::{Event, Setting};
use change::{Change, named};
use count::{Between, Calls, Counts};
use followed::{Followed, Progress, REACH, window};
use heard::{Answers, Description};
use names::{Names, index_of};

pub use change::{DOUBTED, EMPTIED, KEPT, WAITED};

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

/// How often the checker met what the figures are to tell, its own leniency included.
pub type Stories = BTreeMap<&'static str, u64>;

pub const HELD_BACK: &str = "change held back at the end";
pub const UNSENT: &str = "call that was not sent";
pub const FLAWLESS: &str = "invocation that polls and in which nothing goes wrong";
pub const IN_PART: &str = "invocation in which one of several endpoints fails";
const TO_AND_FRO: &str = "lenient: emptied, and a name came back within TTL, margin and 90 s";
const SHORT_DELAY: &str = "lenient: emptied, and targets drain for less than that";
const LONG_TTL: &str = "lenient: emptied, and the TTL is longer than a target stays initial";
const SEVERAL_CACHES: &str = "lenient: emptied, and a resolver has several caches";
const ROTATING: &str = "lenient: emptied, and the name answers in part";
const JUST_MEDDLED: &str = "lenient: emptied, and somebody else changed the group just before";
const UNSURE: &str = "lenient: failure of a shared endpoint";

/// Section 1: how long an answer and a description can be acted on.
const ACT: Duration = Duration::from_secs(5);
/// I8: between the end of an answer and the first one that is independent of it: ACT, an attempt's time limit and
/// the second that a cache does not count.
const MARGIN: Duration = Duration::from_millis(8500);
/// I8: for how long a doubt can be believed before it begins anew.
const BELIEVABLE: Duration = Duration::from_secs(90);
/// A change of somebody else's that no reconcile under way has seen.
const UNSEEN: Duration = Duration::from_secs(15);
/// Before Lambda's own timeout.
const LATEST_ANSWER: Duration = Duration::from_millis(74_500);
/// I10: what waits for publishing longer than this may be dropped, after 3 hours.
const KEPT_DATA: Duration = Duration::from_secs(10_000);
/// I8: so many groups at the most, and each has its turn within a second.
const FEW: usize = 5;
/// A poll may come as late as a reconcile takes.
const LATE_POLL: Duration = Duration::from_secs(2);

pub type Targets = BTreeSet<SocketAddr>;

/// Those of a described group.
pub fn targets(group: &[TargetHealth], is_one: impl Fn(&TargetHealth) -> bool) -> Targets {
    let targets = group.iter().filter(|target| is_one(target));
    targets
        .map(|target| SocketAddr::new(target.address, target.port))
        .collect()
}

pub fn live(group: &[TargetHealth]) -> Targets {
    targets(group, |target| target.state != "draining")
}

/// A call on its way.
#[derive(Debug)]
struct Sent {
    call: Call,
    at: Duration,
    /// When it came to the service, what that said, and what the group had then.
    arrival: Option<(Duration, String, Vec<TargetHealth>)>,
    data: Vec<Datum>,
}

/// A sandbox, and the invocation that runs in it.
#[derive(Debug, Default)]
struct Running {
    begun: Duration,
    event: Option<Event>,
    answers: Answers,
    followed: BTreeMap<usize, Followed>,
    /// Nothing has gone wrong in the invocation, neither with a question nor with a call.
    is_clean: bool,
    is_publishing_failed: bool,
    counts: Counts,
    calls: Calls,
    /// The sandbox was lost, or kept its data for too long.
    is_lost: bool,
    /// The oldest data that may be unpublished, by the wall clock.
    waiting_since: Option<Duration>,
}

#[derive(Debug, Default)]
struct Group {
    live: Targets,
    meddled: Option<Duration>,
}

struct Checker<'a> {
    setting: &'a Setting,
    now: Duration,
    /// By how much the wall clock was set forward.
    stepped: Duration,
    lives: BTreeMap<Life, Running>,
    groups: BTreeMap<usize, Group>,
    sent: BTreeMap<u64, Sent>,
    names: Names,
    stories: Stories,
    is_healed: bool,
    is_settled: bool,
}

/// The first promise that was broken, or the first of those that are wanted: the promise itself or a part of the text.
/// With it comes what was met on the way.
pub fn check(
    setting: &Setting,
    history: &[Entry],
    only: &[String],
) -> (Result<(), Violation>, Stories) {
    let mut checker = Checker {
        setting,
        now: Duration::ZERO,
        stepped: Duration::ZERO,
        lives: BTreeMap::new(),
        groups: BTreeMap::new(),
        sent: BTreeMap::new(),
        names: Names::default(),
        stories: Stories::new(),
        is_healed: false,
        is_settled: false,
    };
    let is_wanted = |violation: &Violation| {
        let is_it = |only: &String| violation.promise == only || violation.text.contains(only);
        only.is_empty() || only.iter().any(is_it)
    };
    let mut outcomes = history.iter().map(Some).chain([None]).filter_map(|entry| {
        let seen = match entry {
            Some(entry) => {
                checker.now = entry.at;
                checker.see(&entry.what)
            }
            None => checker.finish(),
        };
        let (promise, text) = seen.err()?;
        let at = checker.now;
        Some(Violation { promise, text, at }).filter(is_wanted)
    });
    let violation = outcomes.next();
    (violation.map_or(Ok(()), Err), checker.stories)
}

impl Checker<'_> {
    fn see(&mut self, what: &What) -> Result<(), Broken> {
        let now = self.now;
        match what {
            What::Moved { endpoint, to, .. } => self.names.moved(endpoint, to, now),
            What::Out { endpoint, is_over } => self.names.out(endpoint, *is_over, now),
            What::Stepped { by } => self.stepped(*by),
            What::Meddled { arn, group, .. } => {
                let index = group_of(self.setting, arn);
                let known = self.groups.entry(index).or_default();
                (known.meddled, known.live) = (Some(now), live(group));
                self.disturb(index, None);
            }
            What::Begun { life, event } => self.begin(*life, *event),
            What::Disturbed { life, .. } => self.running(*life).is_clean = false,
            What::Asked { life, id, name } => return self.asked(*life, *id, name),
            What::Answered {
                life,
                id,
                name,
                addresses,
                ttl,
            } => {
                return self.answered(*life, (name, *id), addresses, *ttl);
            }
            What::Called(call) => return self.called(call),
            What::Arrived {
                call,
                outcome,
                fault,
                group,
                data,
            } => {
                let sent = self.sent.get_mut(call).expect("a call");
                sent.arrival = Some((now, outcome.clone(), group.clone()));
                sent.data.clone_from(data);
                let life = sent.call.life;
                let is_fine =
                    fault.is_none() && ["Ok", "ValidationError"].contains(&outcome.as_str());
                self.running(life).is_clean &= is_fine;
                return self.arrived(*call, group);
            }
            What::Returned { call } => self.returned(*call),
            What::Logged { life, line } => return self.logged(*life, line),
            What::Ended {
                life,
                error,
                is_error,
                reconciles,
            } => {
                self.is_answered(*life, error.is_some(), *is_error)?;
                return self.ended(*life, error.as_deref(), *reconciles);
            }
            What::Lost { life } => self.lost(*life),
            What::TimedOut { life } => {
                return broken("I11", format!("{life}: Lambda had to end it"));
            }
            What::Healed => self.is_healed = true,
            What::Settled { groups } => {
                self.is_settled = true;
                let mut groups = groups.iter();
                return groups.try_for_each(|(arn, group)| self.is_where_dns_is(arn, group));
            }
            What::Others { .. } => (),
        }
        Ok(())
    }

    fn running(&mut self, life: Life) -> &mut Running {
        self.lives.entry(life).or_default()
    }

    /// Somebody else changed the group, as far as these are concerned.
    fn disturb(&mut self, group: usize, except: Option<Life>) {
        for (life, running) in &mut self.lives {
            if Some(*life) != except {
                running.followed.entry(group).or_default().disturb(self.now);
            }
        }
    }

    /// A doubt may be too old now, and begins anew.
    fn stepped(&mut self, by: Duration) {
        self.stepped += by;
        (0..self.setting.groups()).for_each(|group| self.disturb(group, None));
    }

    fn begin(&mut self, life: Life, event: Event) {
        let (now, wall, groups) = (self.now, self.now + self.stepped, self.setting.groups());
        let running = self.running(life);
        // I10: what could not be published may be dropped meanwhile.
        let is_old = |since: Duration| wall > since + KEPT_DATA;
        running.is_lost |= running.waiting_since.is_some_and(is_old);
        (running.begun, running.event) = (now, Some(event));
        (running.is_clean, running.is_publishing_failed) = (true, false);
        running.calls = Calls::default();
        running.answers.begin();
        for group in 0..groups {
            running.followed.entry(group).or_default().begin(now);
        }
    }

    fn is_shared(&self, group: usize) -> bool {
        let mut endpoints = self.setting.endpoints_of(group);
        endpoints.any(|endpoint| self.setting.is_shared(endpoint))
    }

    fn fed(&self, endpoint: usize) -> Vec<usize> {
        let feeds = self.setting.feeds.iter().filter(|feed| feed.0 == endpoint);
        feeds.map(|feed| feed.1).collect()
    }

    fn asked(&mut self, life: Life, id: u16, name: &str) -> Result<(), Broken> {
        let (now, setting) = (self.now, self.setting);
        let last = |running: &Running, endpoint| {
            let asked = running.answers.asked.get(&endpoint);
            asked.and_then(|asked| asked.last().copied())
        };
        let before = index_of(name).and_then(|(endpoint, _)| last(self.running(life), endpoint));
        let Some(endpoint) = self.running(life).answers.asked(name, id, now) else {
            return Ok(());
        };
        for group in self.fed(endpoint) {
            let is_shared = self.is_shared(group);
            let followed = self.running(life).followed.entry(group).or_default();
            // Where groups share the endpoint, it may be the other group's question.
            followed.is_unsure |= followed.is_failed && is_shared;
            followed.is_failed &= is_shared;
            (followed.is_held_back, followed.is_failover_sure) = (false, false);
        }
        let running = self.running(life);
        let (length, interval) = running
            .event
            .map(|event| window(setting, event))
            .unwrap_or_default();
        let is_late = before.is_some_and(|before| now > before + interval + LATE_POLL);
        match running.is_clean
            && is_late
            && now <= running.begun + length
            && setting.groups() <= FEW
        {
            true => broken(
                "section 1, window",
                format!("{life} does not ask for {name} for too long"),
            ),
            false => Ok(()),
        }
    }

    fn answered(
        &mut self,
        life: Life,
        (name, id): (&str, u16),
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<(), Broken> {
        let (now, is_united) = (self.now, self.setting.lookups > 1);
        let running = self.running(life);
        let (answers, begun) = (&mut running.answers, running.begun);
        let Some(endpoint) = answers.answered(name, id, addresses, (now, ttl)) else {
            return Ok(());
        };
        let [.., before, last] = &mut answers.of.get_mut(&endpoint).expect("the answer")[..] else {
            return Ok(());
        };
        // Of two questions at once the reconcile takes one answer.
        let is_twice = last.asked < before.arrived && !is_united;
        (before.is_weak, last.is_weak) = (before.is_weak || is_twice, is_twice);
        // A dry run remembers nothing.
        last.is_weak |= running.event == Some(Event::DryRun);
        let is_other = before.asked < begun || before.addresses != last.addresses;
        for group in self.fed(endpoint) {
            let followed = self.running(life).followed.entry(group).or_default();
            followed.since = if is_other { now } else { followed.since };
            let is_settled = self.is_settled_at(life, group);
            self.running(life)
                .followed
                .entry(group)
                .or_default()
                .is_settled &= is_settled;
            self.progress(life, group, |progress, followed| {
                progress.is_decided(followed, Some(now))
            })?;
        }
        Ok(())
    }

    /// Whether the last description has what DNS says.
    fn is_settled_at(&mut self, life: Life, group: usize) -> bool {
        let setting = self.setting;
        let description = self.running(life).followed[&group].description.as_ref();
        let has = description.map(|description| &description.live() - &kept(setting));
        let mut is_settled = false;
        let _ = self.progress_of(life, group, |progress, _| {
            let (said, is_whole) = progress.said();
            is_settled = is_whole && has == Some(said);
            Ok(())
        });
        is_settled
    }

    /// What has to be true of an invocation in which nothing has gone wrong.
    fn progress(
        &mut self,
        life: Life,
        group: usize,
        is_kept: impl FnOnce(Progress<'_>, &Followed) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let setting = self.setting;
        let running = self.running(life);
        let is_quiet = running.is_clean && running.event != Some(Event::DryRun);
        match is_quiet && !setting.is_rotating && setting.groups() <= FEW {
            true => self.progress_of(life, group, is_kept),
            false => Ok(()),
        }
    }

    fn progress_of(
        &mut self,
        life: Life,
        group: usize,
        is_kept: impl FnOnce(Progress<'_>, &Followed) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let running = &self.lives[&life];
        let (Some(event), Some(known)) = (running.event, self.groups.get(&group)) else {
            return Ok(());
        };
        let progress = Progress {
            setting: self.setting,
            answers: &running.answers,
            group,
            begun: running.begun,
            event,
            live: &known.live,
        };
        is_kept(progress, &running.followed[&group])
    }

    fn called(&mut self, call: &Call) -> Result<(), Broken> {
        let (now, is_settled, Call { life, action, .. }) = (self.now, self.is_settled, call);
        let (call, at) = (call.clone(), now);
        self.sent.insert(
            call.id,
            Sent {
                call,
                at,
                arrival: None,
                data: Vec::new(),
            },
        );
        let call = &self.sent.last_entry().expect("the call").get().call.clone();
        let is_change = ["RegisterTargets", "DeregisterTargets"].contains(&action.as_str());
        let running = self.running(*life);
        running.is_publishing_failed |= action == "PutMetricData";
        // I6: deciding again after applying, with the same answer, plans nothing.
        if is_change && is_settled {
            return broken("I6", format!("{life} changes what is as DNS says"));
        }
        // Section 4: a dry run registers, deregisters and publishes nothing.
        if running.event == Some(Event::DryRun) && (is_change || action == "PutMetricData") {
            return broken("section 4", format!("{life} calls {action} in a dry run"));
        }
        running.calls.add(action, now - running.begun)?;
        match action.as_str() {
            _ if is_change => self.changes(call),
            "DescribeTargetHealth" => self.describes(call),
            _ => Ok(()),
        }
    }

    fn changes(&mut self, call: &Call) -> Result<(), Broken> {
        let group = group_of(self.setting, &call.arn);
        let running = self.lives.get_mut(&call.life).expect("it runs");
        let followed = running.followed.get_mut(&group).expect("it runs");
        followed.is_settled = false;
        let change = Change {
            setting: self.setting,
            names: &self.names,
            answers: &running.answers,
            followed,
            group,
            call,
            now: self.now,
            begun: running.begun,
            is_clean: running.is_clean,
        };
        let is_promised = change.is_promised(&mut self.stories);
        is_promised.map_err(|(promise, text)| (promise, format!("{} {text}", call.life)))
    }

    /// Section 1, I12: what is settled is not described again in that invocation.
    fn describes(&mut self, call: &Call) -> Result<(), Broken> {
        let group = group_of(self.setting, &call.arn);
        let is_shared = self.is_shared(group);
        let followed = self.running(call.life).followed.entry(group).or_default();
        match followed.is_settled && !is_shared {
            true => broken(
                "I12",
                format!("{} describes what is settled: group {group}", call.life),
            ),
            false => Ok(()),
        }
    }

    /// I2: at no moment does an action leave the group without a live target, within I8's limit.
    fn arrived(&mut self, call: u64, group: &[TargetHealth]) -> Result<(), Broken> {
        let Call {
            life, action, arn, ..
        } = &self.sent[&call].call;
        let (life, action) = (*life, action.clone());
        if ![
            "RegisterTargets",
            "DeregisterTargets",
            "DescribeTargetHealth",
        ]
        .contains(&action.as_str())
        {
            return Ok(());
        }
        let index = group_of(self.setting, arn);
        let known = self.groups.entry(index).or_default();
        let had = std::mem::replace(&mut known.live, live(group));
        if known.live != had {
            self.disturb(index, Some(life));
        }
        if had.is_empty() || !group.iter().all(|target| target.state == "draining") {
            return Ok(());
        }
        match self.limit(index) {
            Some(lenient) => *self.stories.entry(lenient).or_default() += 1,
            None => return broken("I2", format!("{life}: {action} leaves nobody who serves")),
        }
        Ok(())
    }

    /// What I8 says can defeat it.
    fn limit(&self, group: usize) -> Option<&'static str> {
        let (now, setting) = (self.now, self.setting);
        let old = setting.staleness() + MARGIN + BELIEVABLE;
        let meddled = self.groups.get(&group).and_then(|known| known.meddled);
        let limits = [
            (
                JUST_MEDDLED,
                meddled.is_some_and(|meddled| now < meddled + UNSEEN),
            ),
            (ROTATING, setting.is_rotating),
            (TO_AND_FRO, self.names.is_to_and_fro(setting, group, now)),
            (SEVERAL_CACHES, setting.caches > 1),
            (LONG_TTL, setting.staleness() > setting.registration_lag),
            (SHORT_DELAY, setting.deregistration_delay < old),
        ];
        let mut limits = limits.into_iter();
        limits.find_map(|(lenient, is_it)| is_it.then_some(lenient))
    }

    /// The service's answer is known to the one who called.
    fn returned(&mut self, call: u64) {
        let Sent {
            call,
            at,
            arrival,
            data,
        } = self.sent.remove(&call).expect("a call");
        let (arrived, outcome, group) = arrival.expect("it came to the service before");
        let (now, targets) = (self.now, call.targets.iter().map(named));
        let running = self.running(call.life);
        // I2: only what CloudWatch itself acknowledged is published.
        if call.action == "PutMetricData" {
            if outcome == "Ok" {
                running.is_publishing_failed = false;
                running.counts.publish(&data);
            }
            return;
        }
        if call.action == "DescribeTargetGroups" {
            return;
        }
        let index = group_of(self.setting, &call.arn);
        let followed = self.running(call.life).followed.entry(index).or_default();
        match (call.action.as_str(), outcome.as_str()) {
            ("DescribeTargetHealth", "Ok") => {
                let (called, targets) = (at, group);
                let before = followed.description.as_ref();
                if before.is_some_and(|before| before.called <= followed.disturbed) {
                    followed.since = now;
                }
                followed.description = Some(Description {
                    called,
                    arrived,
                    targets,
                });
                let is_settled = self.is_settled_at(call.life, index);
                self.running(call.life)
                    .followed
                    .entry(index)
                    .or_default()
                    .is_settled = is_settled;
            }
            ("RegisterTargets", "Ok") => followed
                .registered
                .extend(targets.map(|target| (target, now))),
            ("RegisterTargets", "ValidationError") => followed.refused.extend(targets),
            ("DeregisterTargets", "Ok") => self.deregistered(&call, index),
            _ => (),
        }
    }

    /// Section 6: a failover is a deregistration of an address that is no longer desired.
    fn deregistered(&mut self, call: &Call, group: usize) {
        let (now, is_shared) = (self.now, self.is_shared(group));
        let endpoints: Vec<_> = self.setting.endpoints_of(group).collect();
        let running = self.running(call.life);
        let is_named = |address: IpAddr| {
            let answers = endpoints
                .iter()
                .filter_map(|endpoint| running.answers.of.get(endpoint));
            let mut recent = answers
                .flatten()
                .filter(|answer| now <= answer.asked + 2 * ACT);
            recent.any(|answer| answer.addresses.contains(&address))
        };
        let is_failover = call.targets.iter().any(|one| !is_named(named(one).ip()));
        let followed = running.followed.get_mut(&group).expect("it runs");
        let is_new = followed.failover.is_none_or(|last| now > last + ACT);
        let is_sure = is_failover && is_new && !is_shared;
        followed.is_failover_sure = is_sure;
        followed.failover = if is_failover {
            Some(now)
        } else {
            followed.failover
        };
        running.counts.failovers.add(is_sure.into(), 1);
    }

    fn logged(&mut self, life: Life, line: &Line) -> Result<(), Broken> {
        let (now, is_dry_run) = (self.now, self.running(life).event == Some(Event::DryRun));
        let is_unsent = line.is_warning
            && (line.message.starts_with("unsent") || line.message.contains("left over"));
        let is_held_back = line.is_warning && line.message.contains("held back");
        for group in 0..self.setting.groups() {
            let is_its = play::arn(group) == line.target_group_arn;
            let is_shared = self.is_shared(group);
            let begun = self.running(life).begun;
            let running = self.running(life);
            let followed = running.followed.entry(group).or_default();
            if is_its && line.is_error {
                // I9: every failed reconcile is counted.
                followed.is_failed = true;
                followed.is_unsure |= is_shared;
                followed.errors += 1;
                let undone = u64::from(std::mem::take(&mut followed.is_failover_sure));
                running.counts.failovers.0 -= undone;
                running
                    .counts
                    .failures
                    .add((!is_dry_run).into(), (!is_dry_run).into());
                self.weaken(life, group);
            } else if (is_its || line.target_group_arn.is_empty()) && (is_held_back || is_unsent) {
                followed.is_held_back |= is_held_back;
                followed.is_unsent |= is_unsent;
                running.counts.failures.add(0, (!is_dry_run).into());
                if is_unsent && now + LATE_POLL < begun + REACH {
                    return broken("section 1", format!("{life} gives a call up too soon"));
                }
            }
        }
        Ok(())
    }

    /// A reconcile that failed may not have decided by its answers.
    fn weaken(&mut self, life: Life, group: usize) {
        let (now, endpoints) = (
            self.now,
            self.setting.endpoints_of(group).collect::<Vec<_>>(),
        );
        for endpoint in endpoints {
            let answers = self.running(life).answers.of.get_mut(&endpoint);
            for answer in answers.into_iter().flatten() {
                answer.is_weak |= now <= answer.asked + 2 * ACT;
            }
        }
    }

    /// Section 1: an invocation that the queue caused returns its report with the errors in it, not an
    /// error, which every other invocation does.
    fn is_answered(&mut self, life: Life, is_failed: bool, is_error: bool) -> Result<(), Broken> {
        let is_queue_result = self.running(life).event == Some(Event::Queue);
        match is_error == (is_failed && !is_queue_result) {
            true => Ok(()),
            false => broken(
                "section 1",
                format!("{life} answers an error: {is_error}, by the queue: {is_of_queue}"),
            ),
        }
    }

    fn lost(&mut self, life: Life) {
        self.count(life, None);
        let groups = self.setting.groups() as u64;
        let running = self.running(life);
        // What it held back may be published and not yet told.
        running.counts.failures.add(0, groups);
        (running.is_lost, running.event) = (true, None);
    }

    fn ended(
        &mut self,
        life: Life,
        error: Option<&str>,
        reconciles: Option<u64>,
    ) -> Result<(), Broken> {
        let (now, wall, is_healed) = (self.now, self.now + self.stepped, self.is_healed);
        let most = self.count(life, reconciles);
        let left = self.is_left_as_it_has_to_be(life);
        let running = self.running(life);
        let is_dry_run = running.event.take() == Some(Event::DryRun);
        if !is_dry_run {
            running.waiting_since = running
                .waiting_since
                .filter(|_| running.is_publishing_failed);
        }
        if running.is_publishing_failed && running.waiting_since.is_none() {
            running.waiting_since = Some(wall);
        }
        // I11: the invocation ends by itself before Lambda's own timeout.
        if now - running.begun > LATEST_ANSWER {
            return broken(
                "I11",
                format!("{life} answers after {:?}", now - running.begun),
            );
        }
        let mut all = running.followed.values();
        // Section 1: a settled group is described in the first reconcile of an invocation.
        let is_seen = |followed: &Followed| {
            followed.description.is_some() || followed.is_unsent || is_dry_run
        };
        if error.is_none() && !all.clone().all(is_seen) {
            return broken("section 1", format!("{life} never described a group"));
        }
        // Section 5: one that starts again is the same reconcile, and counts once.
        if reconciles.is_some_and(|reconciles| reconciles > most) {
            let text =
                format!("{life} counts {reconciles:?} reconciles, there were at most {most}");
            return broken("section 5", text);
        }
        // I9: an error when the last reconcile of any group failed or publishing did, and else none.
        let is_expected =
            all.clone().any(|followed| followed.is_failed) || running.is_publishing_failed;
        let is_unsent = all.clone().any(|followed| followed.is_unsent);
        let is_unsure = all.any(|followed| followed.is_unsure);
        let is_right = error.is_some() == is_expected || (is_unsent && error.is_some());
        *self.stories.entry(UNSURE).or_default() += u64::from(is_unsure);
        match error {
            _ if !is_unsure && !is_right => broken(
                "I9",
                format!("{life} answers {error:?}, but by what happened it should not"),
            ),
            Some(error) if is_healed => broken("I9", format!("{life} still fails: {error}")),
            _ => left,
        }
    }

    /// The reconciles of the invocation that ends, by its result where it has one, and what it left undone. Returns
    /// the most that there can have been.
    fn count(&mut self, life: Life, reconciles: Option<u64>) -> u64 {
        let setting = self.setting;
        let running = self.running(life);
        let asked = |endpoint| running.answers.asked.get(&endpoint).map_or(0, Vec::len) as u64;
        let (mut most, mut stories) = (0, [(HELD_BACK, 0), (UNSENT, 0)]);
        for (group, followed) in &running.followed {
            let asked = setting.endpoints_of(*group).map(asked).max();
            most += (asked.unwrap_or(0) + followed.errors).max(1);
            stories[0].1 += u64::from(followed.is_held_back);
            stories[1].1 += u64::from(followed.is_unsent);
        }
        if running.event == Some(Event::DryRun) {
            return most;
        }
        let Between(fewest, at_most) = Between(setting.groups() as u64, most);
        running
            .counts
            .reconciles
            .add(reconciles.unwrap_or(fewest), reconciles.unwrap_or(at_most));
        // Section 2: what is held back at the end is counted, unless the reconcile failed anyway.
        for followed in running.followed.values() {
            let is_undone = followed.is_held_back || followed.is_unsent;
            running
                .counts
                .failures
                .add((is_undone && followed.errors == 0).into(), 0);
        }
        for (story, count) in stories {
            *self.stories.entry(story).or_default() += count;
        }
        most
    }

    /// An invocation in which nothing went wrong polls up to the end of its window, and leaves nothing undone.
    fn is_left_as_it_has_to_be(&mut self, life: Life) -> Result<(), Broken> {
        let (now, setting) = (self.now, self.setting);
        let running = self.running(life);
        let Some(event) = running.event else {
            return Ok(());
        };
        let (begun, (length, interval)) = (running.begun, window(setting, event));
        let asked = running
            .answers
            .asked
            .values()
            .map(|asked| asked[asked.len() - 1]);
        let last = asked.min().unwrap_or(begun);
        let is_polling = !length.is_zero() && running.is_clean;
        if is_polling && setting.groups() <= FEW && last + interval + LATE_POLL < begun + length {
            return broken(
                "section 1, window",
                format!("{life} stops asking at {last:?}"),
            );
        }
        *self.stories.entry(FLAWLESS).or_default() += u64::from(is_polling);
        for group in 0..setting.groups() {
            let mut is_whole = true;
            self.progress(life, group, |progress, followed| {
                is_whole = progress.said().1;
                if now < begun + REACH {
                    progress.is_registered(followed)?;
                }
                progress.is_decided(followed, None)
            })?;
            let is_in_part = !is_whole && setting.endpoints_of(group).count() > 1;
            *self.stories.entry(IN_PART).or_default() += u64::from(is_in_part);
        }
        Ok(())
    }

    /// Section 1: the group is what the name says, and what others have in `KEEP_CIDRS`.
    fn is_where_dns_is(&self, arn: &str, group: &[TargetHealth]) -> Result<(), Broken> {
        let setting = self.setting;
        let mut expected = self.names.desired(setting, group_of(setting, arn));
        expected.extend(kept(setting));
        let mut current = live(group);
        if setting.misses > 0 {
            // No answer misses an address that DNS has, whatever the port.
            let is_at = |target: &SocketAddr| expected.iter().any(|one| one.ip() == target.ip());
            current.retain(|target| expected.contains(target) || !is_at(target));
        }
        match current == expected {
            true => Ok(()),
            false => broken(
                "section 1",
                format!("{arn} has {current:?}, not {expected:?}"),
            ),
        }
    }

    fn finish(&mut self) -> Result<(), Broken> {
        for (life, running) in &self.lives {
            if running.event.is_some() {
                return broken("I11", format!("{life} never ended"));
            }
            let is_published = running.counts.is_published(running.is_lost);
            is_published.map_err(|(promise, text)| (promise, format!("{life}: {text}")))?;
        }
        Ok(())
    }
}

fn group_of(setting: &Setting, arn: &str) -> usize {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let index = usize::from_str_radix(id, 16).expect("a group's number");
    assert!(index < setting.groups() && play::arn(index) == arn, "{arn}");
    index
}
