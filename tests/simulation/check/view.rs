//! Shows what a sandbox knows about a group during an invocation. If nothing goes wrong, it must leave nothing undone.

use std::net::SocketAddr;
use std::time::Duration;

use stand_in::elb::TargetHealth;

use super::heard::Answer;
use super::{Broken, Checker, MARGIN, Running, Targets, live, must, targets};
use crate::play::kept;
use crate::sequence::{Event, Setting};

/// Section 1: the time after its begin within which an invocation may start a reconcile.
pub const REACH: Duration = Duration::from_secs(63);
/// A reconcile takes less than this, even if several groups take their turns.
pub const RECONCILE: Duration = Duration::from_secs(2);

/// A group as an invocation follows it.
#[derive(Debug, Default)]
pub struct Followed {
    pub description: Option<Description>,
    /// The registrations that were acknowledged, and when they were.
    pub registered: Vec<(SocketAddr, Duration)>,
    /// The targets for which Elastic Load Balancing asked for a zone.
    pub refused: Targets,
    pub errors: u64,
    /// The last reconcile failed.
    pub is_failed: bool,
    /// Another group asks for the same name, so nobody can tell whether the last reconcile failed.
    pub is_unsure: bool,
    /// A change was held back, and no question was asked since.
    pub is_held_back: bool,
    /// A call was not sent.
    pub is_unsent: bool,
    /// Every answer since this time says the same, and nobody else has changed the group since.
    pub since: Duration,
    /// The time at which somebody else last changed the group.
    pub disturbed: Duration,
    /// The time at which the last failover was acknowledged. The next field is true if the reconcile under way made it.
    pub failover: Option<Duration>,
    pub is_failover: bool,
}

/// A group as Elastic Load Balancing described it.
#[derive(Debug)]
pub struct Description {
    pub called: Duration,
    /// The time at which the call arrived at the service.
    pub arrived: Duration,
    pub group: Vec<TargetHealth>,
}

impl Description {
    pub fn live(&self) -> Targets {
        live(&self.group)
    }

    pub fn is(&self, target: SocketAddr, state: &str) -> bool {
        targets(&self.group, |target| target.state == state).contains(&target)
    }
}

pub struct View<'a> {
    pub checker: &'a Checker<'a>,
    pub setting: &'a Setting,
    pub running: &'a Running,
    pub followed: &'a Followed,
    pub group: usize,
    pub now: Duration,
}

impl View<'_> {
    /// Returns the endpoints that feed the group, as the sandbox knows it.
    pub fn endpoints(&self) -> impl Iterator<Item = usize> {
        self.running.list.endpoints_of(self.group)
    }

    pub fn misses(&self) -> u32 {
        let own = self.running.list.misses_of(self.group);
        own.unwrap_or(self.setting.misses)
    }

    /// True if groups share an endpoint, so that nobody can tell which of them asked.
    pub fn is_shared(&self) -> bool {
        self.endpoints()
            .any(|endpoint| self.setting.is_shared(endpoint))
    }

    /// Returns the live targets of the group.
    fn live(&self) -> &Targets {
        &self.checker.groups[self.group].0
    }

    pub fn answers(&self, endpoint: usize) -> &[Answer] {
        self.running.answers.of(endpoint)
    }

    /// Returns what the answers to the invocation's last questions say, and whether all endpoints have answered.
    pub fn said(&self) -> (Targets, bool) {
        let (mut said, mut is_whole) = (Targets::new(), true);
        for endpoint in self.endpoints() {
            let last = self.running.answers.last(endpoint);
            said.extend(last.iter().flat_map(|last| &last.targets));
            is_whole &= last.is_some();
        }
        (said, is_whole)
    }

    /// Checks that fresh targets are registered at once, even while another endpoint fails (I1).
    pub fn is_registered(&self) -> Result<(), Broken> {
        let Some(description) = &self.followed.description else {
            return Ok(());
        };
        // If groups share an endpoint, the last answer may have been for another group.
        if self.followed.disturbed >= description.called || self.is_shared() {
            return Ok(());
        }
        let (said, is_whole) = self.said();
        let mut has = targets(&description.group, |_| true);
        has.retain(|_| !is_whole || !description.live().is_empty());
        let promise = if is_whole { "I8, fresh" } else { "I1, in part" };
        let is_registered = said.is_subset(&(&has | self.live()));
        must(is_registered, promise, "a fresh target is not registered")
    }

    /// I8: a doubt begins anew whatever ended it, and this invocation decides on it if that is possible. For one TTL, a
    /// cache may give an answer from before the answers began to say so. After another TTL and the margin, an answer is
    /// independent.
    pub fn is_decided(&self, is_end: bool) -> Result<(), Broken> {
        let (setting, followed) = (self.setting, self.followed);
        let (_, interval) = window(setting, self.running.event);
        let due = followed.since + 2 * setting.staleness() + MARGIN + interval + RECONCILE;
        // A change by somebody else is not known before the next description.
        let description = followed.description.as_ref();
        let is_seen = description.is_some_and(|one| one.called > followed.disturbed);
        let is_due = (is_end || self.now > due) && due <= self.running.begun + REACH;
        let (said, is_whole) = self.said();
        let is_done = said == self.live() - &(&kept(setting) - &said);
        let is_sure = is_seen && is_whole && self.misses() == 0 && !self.is_shared();
        must(
            is_done || !is_due || !is_sure,
            "liveness",
            "the group is not what DNS says",
        )
    }

    /// Section 1: the invocation asks on the window's grid, up to the end of the window.
    pub fn is_polled(&self, endpoint: usize) -> Result<(), Broken> {
        let (window, interval) = window(self.setting, self.running.event);
        let (mut last, end) = (self.running.begun, self.running.begun + window);
        let asked = self.running.answers.asked_for(endpoint).iter();
        for asked in asked.chain([&end]).map(|asked| *asked.min(&end)) {
            let is_late = asked > last + interval + RECONCILE;
            must(!is_late, "section 1, window", "it did not ask for long")?;
            last = asked;
        }
        Ok(())
    }
}

/// Returns how long an invocation polls, and at what interval.
pub fn window(setting: &Setting, event: Option<Event>) -> (Duration, Duration) {
    let (window, interval) = match event {
        None | Some(Event::DryRun) => (0, 0),
        Some(Event::Schedule) => (setting.poll, setting.interval),
        Some(Event::Notification | Event::Queue) => (setting.event_poll, 1),
    };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    (seconds(window), seconds(interval))
}
