//! Checks the promises on what happened, entry by entry. The checker knows the contract and nothing about the code. It
//! looks at outcomes: where the names were, what DNS answered, what Elastic Load Balancing described, and what came of
//! each call. It does not decide by itself what to hold back.

mod change;
mod count;
mod heard;
mod list;
mod names;
mod view;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::elb::TargetHealth;
use stand_in::world::PORT;

use crate::history::{Call, Entry, Life, Line, Page, What};
use crate::play::{index_of_group, kept};
use crate::sequence::{Event, Names, Setting};
use change::{Change, named};
use count::{BAD_TAGS, Calls, Counts, FAILOVERS, FAILURES, RECONCILES};
use heard::Answers;
use list::{List, Listed};
use names::{Name, index_of};
use view::{Description, Followed, REACH, RECONCILE, View, window};

pub use change::{DOUBTED, EMPTIED, KEPT, WAITED};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub text: String,
    pub at: Duration,
}

type Broken = (&'static str, &'static str);

fn must(is_kept: bool, promise: &'static str, text: &'static str) -> Result<(), Broken> {
    if is_kept {
        Ok(())
    } else {
        Err((promise, text))
    }
}

/// The number of times that the checker met each story, including those in which it was lenient.
pub type Stories = BTreeMap<&'static str, u64>;

pub const HELD_BACK: &str = "change held back at the end";
pub const CAME_BACK: &str = "name that comes back soon";
pub const UNSENT: &str = "call that was not sent";
pub const FLAWLESS: &str = "invocation that polls and in which nothing goes wrong";
pub const IN_PART: &str = "invocation in which one of several endpoints fails";
pub const RENAMED: &str = "names of a group that do not hold yet";
pub const BAD_TAG: &str = "tag that cannot be read";
pub const DELETED: &str = "call for a group that was deleted";
pub const SWEPT: &str = "group that a sweep leaves out";
const UNSURE: &str = "lenient: failure of a shared endpoint";

/// Section 1: the time for which an answer and a description can be acted on.
const ACT: Duration = Duration::from_secs(5);
/// I8: the time between the end of an answer and the first answer that is independent of it.
const MARGIN: Duration = Duration::from_millis(8500);
/// I8: the time for which a doubt can be believed before it begins anew.
const BELIEVABLE: Duration = Duration::from_secs(90);
/// A reconcile under way may not have seen a change that somebody else made within this time.
const UNSEEN: Duration = Duration::from_secs(15);
/// The latest time of an answer. It is before Lambda's own timeout.
const LATEST_ANSWER: Duration = Duration::from_millis(74_500);
/// I10: data that cannot be published are dropped after 3 hours. A pause that is longer than this takes an hour or more,
/// and several of them add up to 3 hours.
const KEPT_DATA: Duration = Duration::from_secs(600);
/// The number of groups that get their turns at once.
const FEW: usize = 5;
/// Section 9: this many groups are described in each invocation, and 500 within this many invocations.
const DESCRIBED: usize = 70;
const SWEEP: u32 = 8;

pub type Targets = BTreeSet<SocketAddr>;

fn at_port(addresses: &[IpAddr]) -> Targets {
    let targets = addresses.iter().map(|address| (*address, PORT).into());
    targets.collect()
}

/// Returns the targets of a described group for which `is_one` is true.
pub fn targets(group: &[TargetHealth], is_one: impl Fn(&TargetHealth) -> bool) -> Targets {
    let targets = group.iter().filter(|target| is_one(target));
    targets
        .map(|target| (target.address, target.port).into())
        .collect()
}

pub fn live(group: &[TargetHealth]) -> Targets {
    targets(group, |target| target.state != "draining")
}

/// A sandbox, and the invocation that runs in it.
#[derive(Debug, Default)]
struct Running {
    begun: Duration,
    event: Option<Event>,
    answers: Answers,
    followed: Vec<Followed>,
    /// Nothing has gone wrong in the invocation, neither with a question nor with a call.
    is_clean: bool,
    is_publishing_failed: bool,
    /// The invocation has the fleet's list, or needs none.
    is_listed: bool,
    /// The last list that reached the sandbox, and the pages of the list that is on its way to it.
    list: List,
    arriving: List,
    /// The last list when the invocation began. A dry run remembers no other.
    list_before: List,
    /// The number of clean invocations in a row that left each group out.
    left_out: BTreeMap<usize, u32>,
    counts: Counts,
    calls: Calls,
    /// The sandbox was lost, or may have kept its data for too long.
    is_lost: bool,
    /// The time by the wall clock at which the last invocation ended.
    ended: Duration,
}

/// A call on its way, the time at which it was sent, and what it met at the service.
type Sent<'a> = (&'a Call, Duration, Option<&'a Entry>);

struct Checker<'a> {
    setting: &'a Setting,
    now: Duration,
    /// The time by which the wall clock was set forward.
    stepped: Duration,
    lives: BTreeMap<Life, Running>,
    /// The targets that each group has, and the time at which somebody else last changed it.
    groups: Vec<(Targets, Option<Duration>)>,
    sent: BTreeMap<u64, Sent<'a>>,
    names: Vec<Name>,
    /// The groups that the list has.
    tagged: BTreeMap<usize, Listed>,
    deleted: BTreeSet<usize>,
    stories: RefCell<Stories>,
    is_healed: bool,
    is_settled: bool,
}

/// Returns the first violation, with the stories that were met until then. If `only` is not empty, a violation counts
/// only if its promise is listed there, or if a listed text is a part of its text.
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
        groups: vec![Default::default(); setting.groups()],
        sent: BTreeMap::new(),
        names: (0..setting.endpoints()).map(|_| Name::default()).collect(),
        tagged: BTreeMap::new(),
        deleted: BTreeSet::new(),
        stories: RefCell::default(),
        is_healed: false,
        is_settled: false,
    };
    let is_wanted = |promise: &str, text: &str| {
        let mut wanted = only.iter();
        only.is_empty() || wanted.any(|one| promise == one || text.contains(one))
    };
    let mut outcome = Ok(());
    for entry in history.iter().map(Some).chain([None]) {
        let seen = match entry {
            Some(entry) => checker.see(entry),
            None => checker.finish(),
        };
        if let Err((promise, text)) = seen
            && is_wanted(promise, text)
        {
            let (text, at) = (text.to_owned(), checker.now);
            outcome = Err(Violation { promise, text, at });
            break;
        }
    }
    (outcome, checker.stories.take())
}

impl<'a> Checker<'a> {
    fn see(&mut self, entry: &'a Entry) -> Result<(), Broken> {
        self.now = entry.at;
        match &entry.what {
            What::Moved { endpoint, to, .. } => {
                let old = self.setting.staleness() + MARGIN + BELIEVABLE;
                let name = self.name(endpoint);
                name.moved(to, entry.at, old);
                if name.back == Some(entry.at) {
                    self.tell(CAME_BACK);
                }
            }
            What::Out { endpoint, is_over } => {
                self.name(endpoint).out(!is_over, entry.at);
                // No complete answer says the same as before any more.
                let followed = self.lives.values_mut().flat_map(|life| &mut life.followed);
                followed.for_each(|followed| followed.since = entry.at);
            }
            What::Stepped { by } => {
                self.stepped += *by;
                // A doubt may be too old now. It then begins anew.
                (0..self.groups.len()).for_each(|group| self.disturb(group, None));
            }
            What::Meddled { arn, group, .. } => {
                let index = index_of_group(arn);
                self.groups[index] = (live(group), Some(entry.at));
                self.disturb(index, None);
            }
            What::Tagged { arn, tags } => {
                let group = index_of_group(arn);
                match tags.is_empty() {
                    true => self.tagged.remove(&group),
                    false => self.tagged.insert(group, Listed::read(tags)),
                };
            }
            What::Deleted { arn } => {
                let group = index_of_group(arn);
                self.groups[group] = (Targets::new(), Some(entry.at));
                self.deleted.insert(group);
            }
            What::Begun { life, event } => self.begin(*life, *event),
            What::Disturbed { life, .. } => self.running(*life).is_clean = false,
            What::Asked { life, id, name } => self.asked(*life, *id, name),
            What::Answered {
                life,
                id,
                name,
                addresses,
                ttl,
            } => return self.answered(*life, (name, *id), addresses, *ttl),
            What::Called(call) => return self.called(call),
            What::Arrived { call, .. } => return self.arrived(*call, entry),
            What::Returned { call } => self.returned(*call),
            What::Logged { life, line } => return self.logged(*life, line),
            What::Ended { life, .. } => return self.ended(*life, &entry.what),
            What::Lost { life } => {
                self.count(*life, None);
                let running = self.running(*life);
                // The failure of a held-back change may be published before its line is logged.
                running.counts.most[FAILURES] += running.followed.len() as u64;
                (running.is_lost, running.event) = (true, None);
            }
            What::TimedOut { .. } => return must(false, "I11", "Lambda had to end it"),
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

    fn followed(&mut self, life: Life, group: usize) -> &mut Followed {
        &mut self.running(life).followed[group]
    }

    fn name(&mut self, name: &str) -> &mut Name {
        &mut self.names[index_of(name).expect("an endpoint").0]
    }

    fn view(&self, life: Life, group: usize) -> View<'_> {
        let running = &self.lives[&life];
        View {
            checker: self,
            setting: self.setting,
            running,
            followed: &running.followed[group],
            group,
            now: self.now,
        }
    }

    fn tell(&self, story: &'static str) {
        *self.stories.borrow_mut().entry(story).or_default() += 1;
    }

    /// Returns the groups that this endpoint feeds, as the sandbox knows them.
    fn fed(&self, life: Life, endpoint: usize) -> Vec<usize> {
        let list = &self.lives[&life].list;
        let is_fed = |group: &usize| list.endpoints_of(*group).any(|one| one == endpoint);
        let groups = self.setting.fed(endpoint).into_iter();
        groups.filter(is_fed).collect()
    }

    /// Returns the groups that the sandbox follows, as far as they exist.
    fn followed_groups(&self, life: Life) -> Vec<usize> {
        let followed = self.lives[&life].list.followed();
        followed
            .filter(|group| !self.deleted.contains(group))
            .collect()
    }

    /// Notes that somebody else changed the group, for all sandboxes but `except`.
    fn disturb(&mut self, group: usize, except: Option<Life>) {
        for (_, running) in self.lives.iter_mut().filter(|one| Some(*one.0) != except) {
            if let Some(followed) = running.followed.get_mut(group) {
                (followed.since, followed.disturbed) = (self.now, self.now);
            }
        }
    }

    fn begin(&mut self, life: Life, event: Event) {
        let (now, wall, groups) = (self.now, self.now + self.stepped, self.groups.len());
        let is_fleet = self.setting.is_fleet;
        let configured = List::configured(self.setting);
        let running = self.running(life);
        running.is_listed = !is_fleet;
        if !is_fleet {
            running.list = configured;
        }
        running.list_before = running.list.clone();
        running.arriving = List::default();
        // I10: data that could not be published may have been dropped meanwhile.
        running.is_lost |= running.is_publishing_failed && wall > running.ended + KEPT_DATA;
        (running.begun, running.event) = (now, Some(event));
        running.is_clean = true;
        running.is_publishing_failed &= event == Event::DryRun;
        running.calls = Calls::default();
        running.answers.begin();
        running.followed.clear();
        running.followed.resize_with(groups, Followed::default);
    }

    fn asked(&mut self, life: Life, id: u16, name: &str) {
        let now = self.now;
        let asked = self.running(life).answers.asked(name, id, now);
        let fed = asked.map(|endpoint| self.fed(life, endpoint));
        for group in fed.into_iter().flatten() {
            let is_shared = self.view(life, group).is_shared();
            let followed = self.followed(life, group);
            followed.is_unsure |= followed.is_failed && is_shared;
            followed.is_failed &= is_shared;
            (followed.is_held_back, followed.is_failover) = (false, false);
        }
    }

    fn answered(
        &mut self,
        life: Life,
        question: (&str, u16),
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<(), Broken> {
        let (now, is_united) = (self.now, self.setting.lookups > 1);
        let running = self.running(life);
        if running.event.is_none() {
            // The invocation is over, and the sandbox is frozen.
            return Ok(());
        }
        let (answers, begun) = (&mut running.answers, running.begun);
        let Some(endpoint) = answers.answered(question, addresses, (now, ttl)) else {
            return Ok(());
        };
        let all = answers.of.get_mut(&endpoint).expect("the answer");
        let (last, earlier) = all.split_last_mut().expect("the answer");
        // A dry run remembers nothing.
        last.is_weak = running.event == Some(Event::DryRun);
        let mut is_other = true;
        if let Some(before) = earlier.last_mut() {
            is_other = before.asked < begun || before.targets != last.targets;
            // The reconcile asked two questions at once, and takes only one of the answers.
            let is_twice = last.asked < before.arrived && !is_united;
            before.is_weak |= is_twice;
            last.is_weak |= is_twice;
        }
        for group in self.fed(life, endpoint) {
            let followed = self.followed(life, group);
            followed.since = if is_other { now } else { followed.since };
            if !self.deleted.contains(&group) && self.is_flawless(life) {
                self.view(life, group).is_decided(false)?;
            }
        }
        Ok(())
    }

    /// True if nothing has gone wrong that keeps the invocation from doing its work in time.
    fn is_flawless(&self, life: Life) -> bool {
        let running = &self.lives[&life];
        let is_changing = running.event.is_some_and(|event| event != Event::DryRun);
        let is_simple = !self.setting.is_rotating && self.groups.len() <= FEW;
        running.is_clean && is_changing && is_simple
    }

    fn called(&mut self, call: &'a Call) -> Result<(), Broken> {
        let (now, is_settled, action) = (self.now, self.is_settled, &*call.action);
        self.sent.insert(call.id, (call, now, None));
        let is_removal = action == "DeregisterTargets";
        let is_change = is_removal || action == "RegisterTargets";
        let is_publishing = action == "PutMetricData";
        let running = self.running(call.life);
        running.is_publishing_failed |= is_publishing;
        running.calls.add(action, now - running.begun)?;
        // I6: deciding again after applying, with the same answer, plans nothing.
        must(!is_change || !is_settled, "I6", "it is as DNS says")?;
        // Section 4: a dry run registers, deregisters and publishes nothing.
        let is_dry_run = running.event == Some(Event::DryRun);
        let is_idle = !is_change && !is_publishing;
        must(!is_dry_run || is_idle, "section 4", "it is a dry run")?;
        if !is_change {
            return Ok(());
        }
        // Section 9: what is not in the list is left alone, and so are groups whose tags cannot be read or whose names
        // do not hold yet.
        let group = index_of_group(&call.arn);
        let is_followed = self.lives[&call.life].list.is_followed(group);
        must(is_followed, "section 9", "the group is to be left alone")?;
        let view = self.view(call.life, group);
        let Some(description) = &view.followed.description else {
            return must(false, "I5", "it was not described");
        };
        let change = Change {
            view,
            call,
            description,
            is_removal,
        };
        change.is_promised()
    }

    /// I2: no action ever leaves the group without a live target, within I8's limit.
    fn arrived(&mut self, id: u64, entry: &'a Entry) -> Result<(), Broken> {
        let What::Arrived {
            outcome,
            fault,
            group,
            ..
        } = &entry.what
        else {
            return Ok(());
        };
        let is_missing = outcome == "TargetGroupNotFound";
        let (call, _, arrival) = self.sent.get_mut(&id).expect("a call");
        let (call, _) = (*call, arrival.insert(entry));
        let is_fine = ["Ok", "ValidationError"].contains(&&**outcome) || is_missing;
        self.running(call.life).is_clean &= fault.is_none() && is_fine;
        if is_missing {
            self.tell(DELETED);
        }
        if ["PutMetricData", "DescribeTargetGroups", "GetResources"].contains(&&*call.action) {
            return Ok(());
        }
        let index = index_of_group(&call.arn);
        let had = std::mem::replace(&mut self.groups[index].0, live(group));
        if had != self.groups[index].0 {
            self.disturb(index, Some(call.life));
        }
        if had.is_empty() || !self.groups[index].0.is_empty() {
            return Ok(());
        }
        let limit = self.limit(index);
        limit.into_iter().for_each(|limit| self.tell(limit));
        must(limit.is_some(), "I2", "nobody is left who serves")
    }

    /// Returns the limit of I8 that can have defeated I2 here, if there is one.
    fn limit(&self, group: usize) -> Option<&'static str> {
        let setting = self.setting;
        let old = setting.staleness() + MARGIN + BELIEVABLE;
        let is_recent = |at: Option<Duration>, old| at.is_some_and(|at| self.now < at + old);
        let is_back = |endpoint: usize| is_recent(self.names[endpoint].back, old);
        match setting.deregistration_delay < old {
            _ if is_recent(self.groups[group].1, UNSEEN) => Some("lenient: emptied, just meddled"),
            _ if setting.is_rotating => Some("lenient: emptied, rotating name"),
            _ if setting.named(group, Names::Both).into_iter().any(is_back) => {
                Some("lenient: emptied, name came back")
            }
            _ if setting.caches > 1 => Some("lenient: emptied, several caches"),
            _ if setting.staleness() > setting.registration_lag => {
                Some("lenient: emptied, long TTL")
            }
            true => Some("lenient: emptied, short deregistration delay"),
            false => None,
        }
    }

    /// Notes that the service's response has reached the caller.
    fn returned(&mut self, id: u64) {
        let (call, called, arrival) = self.sent.remove(&id).expect("a call");
        let arrival = arrival.expect("it came to the service before");
        let What::Arrived {
            outcome,
            group,
            data,
            page,
            ..
        } = &arrival.what
        else {
            return;
        };
        let (now, life, is_ok) = (self.now, call.life, outcome == "Ok");
        let (arrived, targets) = (arrival.at, call.targets.iter().map(named));
        match &*call.action {
            "GetResources" => {
                if let Some(page) = page {
                    self.listed(life, page);
                }
            }
            "PutMetricData" if is_ok => {
                self.running(life).is_publishing_failed = false;
                self.running(life).counts.publish(data);
            }
            "DescribeTargetHealth" if is_ok => {
                let group = group.clone();
                let followed = self.followed(life, index_of_group(&call.arn));
                let before = followed.description.as_ref();
                if before.is_some_and(|before| before.called <= followed.disturbed) {
                    followed.since = now;
                }
                followed.description = Some(Description {
                    called,
                    arrived,
                    group,
                });
            }
            "RegisterTargets" if is_ok => {
                let followed = self.followed(life, index_of_group(&call.arn));
                let registered = targets.map(|target| (target, now));
                followed.registered.extend(registered);
            }
            "RegisterTargets" if outcome == "ValidationError" => {
                let followed = self.followed(life, index_of_group(&call.arn));
                followed.refused.extend(targets);
            }
            "DeregisterTargets" if is_ok => self.deregistered(call),
            _ => (),
        }
    }

    /// Notes that a page of the fleet's list has reached the sandbox.
    fn listed(&mut self, life: Life, page: &Page) {
        let running = self.running(life);
        running.arriving.add(page);
        if !page.is_last {
            return;
        }
        let mut list = std::mem::take(&mut running.arriving);
        list.follows(&running.list);
        let (renamed, bad) = list.left_alone();
        (running.list, running.is_listed) = (list, true);
        if running.event != Some(Event::DryRun) {
            running.counts.add(FAILURES, renamed, renamed);
            running.counts.add(BAD_TAGS, bad, bad);
        }
        for (story, count) in [(RENAMED, renamed), (BAD_TAG, bad)] {
            *self.stories.borrow_mut().entry(story).or_default() += count;
        }
    }

    /// Section 6: a failover is a deregistration of an address that is no longer desired.
    fn deregistered(&mut self, call: &Call) {
        let (now, group) = (self.now, index_of_group(&call.arn));
        let view = self.view(call.life, group);
        let answers = view.endpoints().flat_map(|endpoint| view.answers(endpoint));
        let recent: Vec<_> = answers
            .filter(|answer| now <= answer.asked + 2 * ACT)
            .collect();
        let mut targets = call.targets.iter().map(named);
        let is_failover = targets.any(|target| !recent.iter().any(|one| one.is_at(target.ip())));
        let is_new = view.followed.failover.is_none_or(|last| now > last + ACT);
        let is_sure = is_failover && is_new && !view.is_shared();
        let followed = self.followed(call.life, group);
        (followed.failover, followed.is_failover) = (Some(now), is_sure);
        let counts = &mut self.running(call.life).counts;
        counts.add(FAILOVERS, is_sure.into(), 1);
    }

    fn logged(&mut self, life: Life, line: &Line) -> Result<(), Broken> {
        let is_told = |word| line.is_warning && line.message.contains(word);
        let is_held_back = is_told("held back");
        let is_gone = is_told("does not exist");
        let is_unsent = line.is_warning && line.message.starts_with("unsent");
        let now = self.now;
        let groups = match line.target_group_arn.is_empty() {
            true if line.is_error => 0..0,
            true => 0..self.groups.len(),
            false => {
                let group = index_of_group(&line.target_group_arn);
                group..group + 1
            }
        };
        for group in groups {
            if line.is_error {
                self.failed(life, group);
            } else if is_gone {
                // Section 9: that is no failure, and the last reconcile is the one that counts.
                self.followed(life, group).is_failed = false;
                must(
                    self.deleted.contains(&group),
                    "section 9",
                    "the group exists",
                )?;
            } else if is_held_back || is_unsent {
                let running = self.running(life);
                running.counts.most[FAILURES] += 1;
                running.followed[group].is_held_back |= is_held_back;
                running.followed[group].is_unsent |= is_unsent;
                let is_late = now + RECONCILE >= running.begun + REACH;
                must(!is_unsent || is_late, "section 1", "unsent, too soon")?;
            }
        }
        Ok(())
    }

    /// I9: every failed reconcile is reported and counted.
    fn failed(&mut self, life: Life, group: usize) {
        let is_shared = self.view(life, group).is_shared();
        let now = self.now;
        let running = self.running(life);
        let followed = &mut running.followed[group];
        (followed.is_failed, followed.errors) = (true, followed.errors + 1);
        followed.is_unsure |= is_shared;
        if running.event != Some(Event::DryRun) {
            running.counts.add(FAILURES, 1, 1);
        }
        // Another reconcile may count what this one did, and this one may not have decided by its answers.
        let undone = std::mem::take(&mut followed.is_failover);
        running.counts.fewest[FAILOVERS] -= u64::from(undone);
        for endpoint in running.list.endpoints_of(group) {
            let answers = running.answers.of.entry(endpoint).or_default().iter_mut();
            let recent = answers.filter(|answer| now <= answer.asked + 2 * ACT);
            recent.for_each(|answer| answer.is_weak = true);
            if !is_shared {
                running.answers.give_up(endpoint);
            }
        }
    }

    fn ended(&mut self, life: Life, what: &What) -> Result<(), Broken> {
        let What::Ended {
            error,
            is_error,
            reconciles,
            ..
        } = what
        else {
            return Ok(());
        };
        let (now, wall, is_healed) = (self.now, self.now + self.stepped, self.is_healed);
        let followed_groups = self.followed_groups(life);
        let most = self.count(life, *reconciles);
        let is_left_right = self.is_left_right(life);
        if error.is_none() && self.lives[&life].event != Some(Event::DryRun) {
            self.sweeps(life, &followed_groups)?;
        }
        let running = self.running(life);
        let event = running.event.take();
        let (is_dry_run, is_of_queue) = (event == Some(Event::DryRun), event == Some(Event::Queue));
        running.ended = wall;
        // I11: the invocation ends by itself before Lambda's own timeout.
        let is_in_time = now <= running.begun + LATEST_ANSWER;
        must(is_in_time, "I11", "it answers too late")?;
        // Section 1: an invocation that the queue caused returns its report with the errors in it.
        let is_right = *is_error == (error.is_some() && !is_of_queue);
        must(is_right, "section 1", "it answers an error, or should")?;
        let is_any = |is_it: fn(&Followed) -> bool| running.followed.iter().any(is_it);
        // Section 9: a list that fails leaves the last whole one.
        let is_followed = followed_groups.iter().all(|group| {
            let followed = &running.followed[*group];
            let mut endpoints = running.list.endpoints_of(*group);
            let is_asked = endpoints.any(|one| !running.answers.asked_for(one).is_empty());
            is_asked || followed.is_failed || followed.is_unsent
        });
        must(is_followed, "section 9", "a listed group is not followed")?;
        // Section 4: a dry run is no success if it looked at nothing.
        let is_blind = is_dry_run && followed_groups.is_empty();
        if is_dry_run {
            running.list = std::mem::take(&mut running.list_before);
        }
        // Section 1: a group is reconciled at most once a second, and once more when something can be believed.
        let often = running.followed.len() as u64 * (2 * (now - running.begun).as_secs() + 4);
        must(*reconciles <= Some(often), "section 1", "it asks too often")?;
        // Section 5: a reconcile that starts again is still the same one, and counts once.
        must(
            *reconciles <= Some(most),
            "section 5",
            "too many reconciles",
        )?;
        // I9: the invocation ends in an error if and only if publishing or the last reconcile of any group failed.
        let is_unpublished = running.is_publishing_failed && !is_dry_run;
        // Section 9: an invocation without a list follows the last one, and ends in error.
        let is_failed =
            is_any(|one| one.is_failed) || is_unpublished || is_blind || !running.is_listed;
        let is_unsure = is_any(|one| one.is_unsure);
        let is_right = error.is_some() == is_failed || is_unsure;
        must(is_right, "I9", "it ends in error, or should")?;
        must(!is_healed || error.is_none(), "I9", "it still fails")?;
        if is_unsure {
            self.tell(UNSURE);
        }
        is_left_right
    }

    /// Counts what the invocation did and what it leaves undone. Returns the largest possible number of reconciles.
    fn count(&mut self, life: Life, reconciles: Option<u64>) -> u64 {
        let stories = &self.stories;
        let running = self.lives.entry(life).or_default();
        let (mut most, mut undone, counts) = (0, 0, &mut running.counts);
        for (group, followed) in running.followed.iter().enumerate() {
            let asked = running
                .list
                .endpoints_of(group)
                .map(|one| running.answers.asked_for(one).len());
            // The reconcile that finds a group deleted may ask nothing, and is no error.
            let gone = u64::from(self.deleted.contains(&group));
            most += (asked.max().unwrap_or(0) as u64 + followed.errors + gone).max(1);
            let told = [
                (followed.is_held_back, HELD_BACK),
                (followed.is_unsent, UNSENT),
            ];
            for (_, story) in told.into_iter().filter(|(is_it, _)| *is_it) {
                *stories.borrow_mut().entry(story).or_default() += 1;
                // The reconcile that left it undone may have failed anyway. Both are one sample.
                let is_sure = followed.errors == 0 && !(followed.is_unsent && story == HELD_BACK);
                undone += u64::from(is_sure);
            }
        }
        if running.event != Some(Event::DryRun) {
            let unlisted = u64::from(!running.is_listed);
            counts.unlisted += unlisted;
            counts.add(FAILURES, unlisted, unlisted);
            // A sandbox that never had a list follows nothing.
            let all = match running.is_listed {
                true => running.list.followed().count() as u64,
                false => 0,
            };
            let fewest = reconciles.unwrap_or(all);
            counts.add(RECONCILES, fewest, reconciles.unwrap_or(most));
            counts.add(FAILURES, undone, 0);
        }
        most
    }

    /// Section 1: an invocation describes every group, if there are not too many. Section 9: a sweep reaches each one.
    fn sweeps(&mut self, life: Life, followed: &[usize]) -> Result<(), Broken> {
        let stories = &self.stories;
        let running = self.lives.entry(life).or_default();
        let is_large = running.list.followed().count() > DESCRIBED;
        for group in followed {
            let followed = &running.followed[*group];
            let is_described = followed.description.is_some() || followed.is_unsent;
            must(
                is_described || is_large,
                "section 1",
                "a group was never described",
            )?;
            if is_described || !running.is_clean {
                running.left_out.remove(group);
                continue;
            }
            *stories.borrow_mut().entry(SWEPT).or_default() += 1;
            let left_out = running.left_out.entry(*group).or_default();
            *left_out += 1;
            must(*left_out < SWEEP, "section 9", "it was left out too often")?;
        }
        Ok(())
    }

    /// Checks that a flawless invocation asks DNS up to the end of its window, and leaves nothing undone.
    fn is_left_right(&mut self, life: Life) -> Result<(), Broken> {
        if !self.is_flawless(life) {
            return Ok(());
        }
        let running = &self.lives[&life];
        let (window, _) = window(self.setting, running.event);
        if !window.is_zero() {
            self.tell(FLAWLESS);
        }
        for group in self.followed_groups(life) {
            let view = self.view(life, group);
            for endpoint in view.endpoints() {
                view.is_polled(endpoint)?;
            }
            if self.now < running.begun + REACH {
                view.is_registered()?;
            }
            view.is_decided(true)?;
            if !view.said().1 && view.endpoints().count() > 1 {
                self.tell(IN_PART);
            }
        }
        Ok(())
    }

    /// Section 1: the group has what the name says, and what others have in `KEEP_CIDRS`.
    fn is_where_dns_is(&self, arn: &str, group: &[TargetHealth]) -> Result<(), Broken> {
        let (mut expected, mut current) = (kept(self.setting), live(group));
        let index = index_of_group(arn);
        let listed = self.tagged.get(&index);
        let names = match listed {
            Some(listed) => listed.names.clone(),
            None => self.setting.endpoints_of(index).collect(),
        };
        for endpoint in names {
            expected.extend(self.names[endpoint].targets());
        }
        let misses = listed.and_then(|listed| listed.misses);
        if misses.unwrap_or(self.setting.misses) > 0 {
            // No answer misses an address that DNS has, whatever the port.
            let is_at = |target: &SocketAddr| expected.iter().any(|one| one.ip() == target.ip());
            current.retain(|target| expected.contains(target) || !is_at(target));
        }
        must(current == expected, "section 1", "not where DNS is")
    }

    fn finish(&mut self) -> Result<(), Broken> {
        self.lives.values().try_for_each(|running| {
            must(running.event.is_none(), "I11", "an invocation never ended")?;
            running.counts.is_published(running.is_lost)
        })
    }
}
