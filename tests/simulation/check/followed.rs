//! A target group as one sandbox follows it, and what an invocation in which nothing goes wrong has to do about it.

use std::net::SocketAddr;
use std::time::Duration;

use stand_in::world::PORT;

use super::heard::{Answers, Description};
use super::{Broken, MARGIN, Targets, broken};
use crate::play::kept;
use crate::sequence::{Event, Setting};

/// Section 1: how long after its begin an invocation may start a reconcile.
pub const REACH: Duration = Duration::from_secs(63);
/// Two reconciles.
const RECONCILES: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Followed {
    /// The last one of this invocation.
    pub description: Option<Description>,
    /// Acknowledged registrations.
    pub registered: Vec<(SocketAddr, Duration)>,
    /// For which a zone was asked.
    pub refused: Targets,
    /// The last reconcile of the invocation failed.
    pub is_failed: bool,
    /// Another group asks the same name, so that it cannot be told whether the last one failed.
    pub is_unsure: bool,
    pub errors: u64,
    /// A change was held back, and nothing was asked since.
    pub is_held_back: bool,
    /// A call was not sent.
    pub is_unsent: bool,
    /// Every answer since then says the same, and nobody else changed the group.
    pub since: Duration,
    /// When somebody else changed the group last.
    pub disturbed: Duration,
    /// By the last description and all answers since, the group is what DNS says.
    pub is_settled: bool,
    pub failover: Option<Duration>,
    pub is_failover_sure: bool,
}

/// What is known of a group while an invocation runs.
pub struct Progress<'a> {
    pub setting: &'a Setting,
    pub answers: &'a Answers,
    pub group: usize,
    pub begun: Duration,
    pub event: Event,
    /// What the group has.
    pub live: &'a Targets,
}

/// How long an invocation polls, and how often.
pub fn window(setting: &Setting, event: Event) -> (Duration, Duration) {
    let (window, interval) = match event {
        Event::DryRun => (0, 0),
        Event::Schedule => (setting.poll, setting.interval),
        Event::Notification | Event::Queue => (setting.event_poll, 1),
    };
    (
        Duration::from_secs(window.into()),
        Duration::from_secs(interval.into()),
    )
}

impl Followed {
    pub fn begin(&mut self, now: Duration) {
        *self = Followed {
            registered: std::mem::take(&mut self.registered),
            refused: std::mem::take(&mut self.refused),
            failover: self.failover,
            since: now,
            disturbed: self.disturbed,
            ..Followed::default()
        };
    }

    pub fn disturb(&mut self, now: Duration) {
        (self.since, self.disturbed) = (now, now);
    }
}

impl Progress<'_> {
    /// What the last answers of this invocation say, and whether all endpoints have answered.
    pub fn said(&self) -> (Targets, bool) {
        let mut said = (Targets::new(), true);
        for endpoint in self.setting.endpoints_of(self.group) {
            match self.answers.last(endpoint) {
                Some(last) if last.asked >= self.begun => {
                    let targets = last.addresses.iter();
                    said.0
                        .extend(targets.map(|address| SocketAddr::new(*address, PORT)));
                }
                _ => said.1 = false,
            }
        }
        said
    }

    /// Fresh targets are registered at once, also while another endpoint fails (I1).
    pub fn is_registered(&self, followed: &Followed) -> Result<(), Broken> {
        let Some(description) = &followed.description else {
            return Ok(());
        };
        let mut endpoints = self.setting.endpoints_of(self.group);
        if followed.disturbed >= description.called || endpoints.any(|index| self.is_torn(index)) {
            return Ok(());
        }
        let (said, is_whole) = self.said();
        let is_fresh = |target: &&SocketAddr| {
            !description.has(**target) || (is_whole && description.live().is_empty())
        };
        let promise = if is_whole { "I8, fresh" } else { "I1, in part" };
        match said.difference(self.live).find(is_fresh) {
            None => Ok(()),
            Some(target) => broken(
                promise,
                format!("does not register {target}, which is fresh"),
            ),
        }
    }

    /// Where groups share an endpoint, the answers may be those of another group's reconcile.
    fn is_torn(&self, endpoint: usize) -> bool {
        let answers = self.answers.of.get(&endpoint);
        let mut answers = answers.into_iter().flatten().rev();
        let last = answers.next();
        self.setting.is_shared(endpoint)
            && answers
                .take_while(|answer| answer.asked >= self.begun)
                .any(|answer| last.is_some_and(|last| last.addresses != answer.addresses))
    }

    /// I8: a doubt begins anew whatever ended it, and is decided on in this invocation if that is possible: no
    /// cache gives anything older than what it gave when the answers began to say so, by which time another one
    /// has to be independent.
    pub fn is_decided(&self, followed: &Followed, now: Option<Duration>) -> Result<(), Broken> {
        let (setting, (_, interval)) = (self.setting, window(self.setting, self.event));
        // Another group may ask on when this one's window is over.
        let mut endpoints = setting.endpoints_of(self.group);
        if endpoints.any(|endpoint| setting.is_shared(endpoint)) {
            return Ok(());
        }
        // What somebody else did is not known before the next description.
        let description = followed.description.as_ref();
        if description.is_none_or(|description| description.called <= followed.disturbed) {
            return Ok(());
        }
        let due = followed.since + 2 * setting.staleness() + MARGIN + interval + RECONCILES;
        let is_due = now.is_none_or(|now| now > due) && due <= self.begun + REACH;
        let (said, true) = self.said() else {
            return Ok(());
        };
        if !is_due || setting.misses > 0 {
            return Ok(());
        }
        let stale = &(self.live - &said) - &kept(setting);
        if said.is_subset(self.live) && stale.is_empty() {
            return Ok(());
        }
        let (live, since) = (self.live, followed.since);
        let text = format!(
            "leaves group {} at {live:?}, though DNS says {said:?} since {since:?} and it was due at {due:?}",
            self.group
        );
        broken("liveness", text)
    }
}
