//! A change that may rest on a stale answer is doubtful, and is held back until an independent answer says the same.
//!
//! Invocations may overlap, and their resolvers may hold different answers in their caches. Each invocation
//! applies what is right by its own answer, and yet together they do harm. In these stories the endpoint has
//! moved from A to B, and the second invocation's resolver still says A.
//!
//! A stale answer brings a draining target back:
//! 1. The first invocation registers B and deregisters A, which drains from now on.
//! 2. The second one describes A draining, and B. It would register A and deregister B by its answer.
//! 3. The failover is undone, and done again a minute later, for as long as the caches differ.
//!
//! A stale answer removes the target that another invocation registered a moment ago:
//! 1. The first invocation describes A, and registers B.
//! 2. The second one describes A and B. B is stale by its answer, so it will deregister B.
//! 3. The first one deregisters A.
//! 4. The second one deregisters B. Each kept a target of its own answer, and the group is empty.
//!
//! Two answers remove two targets that were both there for long:
//! 1. A and B are healthy: A could not be deregistered at an earlier failover.
//! 2. The first invocation describes A and B, and deregisters A.
//! 3. The second one, which described them at the same time, deregisters B, and the group is empty.
//!
//! In the first two stories Elastic Load Balancing says what another invocation did: the target is `draining`
//! or `initial`. In the third one it says nothing, and that a desired target is `initial` proves nothing about the
//! others. So a deregistration is doubtful unless this reconcile registers a desired target.
//!
//! Each target has a doubt of its own. An answer that names the target ends the doubt about its removal, whether or not
//! that answer is stale, and so does a description that does not show it. Otherwise the doubt lasts until an independent
//! answer says the same. No cache gives the older answer any more then, so the endpoint did move. The margin after the
//! TTL covers a call that is slow to take effect:
//! 1. The first invocation has registered B and sends the call that deregisters A, which hangs.
//! 2. The endpoint moves back to A. The second invocation doubts, waits for the TTL, and believes.
//! 3. The first one's call takes effect. The second one deregisters B, and the group is empty.
//!
//! All of this is only as good as the resolver: a name that moves to and fro within TTL and margin, or one of
//! several caches behind a resolver, can still mislead two invocations at once.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::HeldBack;
use super::answer::{Answer, Moment};
use super::target::{DescribedTarget, State, Target};

/// How long a doubt lasts after it could have been believed.
const BELIEVABLE: Duration = Duration::from_secs(90);

/// What is doubtful about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Registering the target although it drains.
    BringBack,
    /// Deregistering the target.
    Remove,
}

/// A change that may rest on a stale answer.
pub(super) struct Doubtful {
    pub target: Target,
    pub change: Change,
    pub is_initial: bool,
}

/// The doubt about one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    change: Change,
    /// The target was initial when it was last described.
    is_initial: bool,
    /// An answer that is asked for at this time or later is believed.
    independent_from: Moment,
}

/// The independent answers in a row that lack a target's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Misses {
    count: u32,
    /// An answer that is asked for at this time or later is independent of the last one that counted.
    independent_from: Moment,
}

/// What is remembered about one group between reconciles. Its loss only delays a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    doubts: BTreeMap<Target, Doubt>,
    misses: BTreeMap<Target, Misses>,
    /// When the last answer was asked for.
    latest: Option<SystemTime>,
}

impl Memory {
    /// Ends what the answer contradicts. An answer in part says nothing about what it does not name.
    /// A clock that went backwards forgets everything.
    pub fn end_by_answer(&mut self, answer: &Answer, port: u16) {
        let asked = Some(answer.asked());
        if self.latest > asked {
            *self = Memory::default();
        }
        self.latest = asked;
        let desired = answer.targets(port);
        self.doubts.retain(|target, doubt| match doubt.change {
            Change::BringBack => answer.is_partial || desired.contains(target),
            Change::Remove => !desired.contains(target),
        });
        self.misses
            .retain(|target, _| !answer.contains(target.ip()));
    }

    /// Ends what the description contradicts. A target that has become initial was registered again.
    pub(super) fn end_by_description(&mut self, described: &[DescribedTarget]) {
        let described: BTreeMap<_, _> = described.iter().map(|one| (one.target, one)).collect();
        let is_current =
            |target: &Target| described.get(target).is_some_and(|one| one.is_current());
        let is_empty = !described.keys().any(is_current);
        self.misses.retain(|target, _| is_current(target));
        self.doubts.retain(|target, doubt| {
            let state = described.get(target).map(|one| &one.state);
            let was_initial = doubt.is_initial;
            doubt.is_initial = state == Some(&State::Initial);
            match doubt.change {
                Change::BringBack => state == Some(&State::Draining) && !is_empty,
                Change::Remove => is_current(target) && (was_initial || !doubt.is_initial),
            }
        });
    }

    /// Doubts this and nothing else. A doubt that is there already goes on, unless it could have been believed too long
    /// ago.
    pub(super) fn doubt(&mut self, doubtful: impl Iterator<Item = Doubtful>, answer: &Answer) {
        let doubts = doubtful.map(|doubtful| {
            let Doubtful {
                target,
                change,
                is_initial,
            } = doubtful;
            let begun = self.doubts.get(&target).copied().filter(|doubt| {
                doubt.change == change && answer.asked() < doubt.independent_from.wall + BELIEVABLE
            });
            let doubt = begun.unwrap_or_else(|| Doubt {
                change,
                is_initial,
                independent_from: answer.independent_from(),
            });
            (target, doubt)
        });
        self.doubts = doubts.collect();
    }

    /// Counts that the answer lacks the address of these current targets. An answer that depends on the last one
    /// that counted adds nothing.
    pub(super) fn count_misses(&mut self, lacking: impl Iterator<Item = Target>, answer: &Answer) {
        let misses = lacking.map(|target| {
            let counted = self.misses.get(&target).copied();
            let misses = match counted {
                Some(misses) if answer.is_dependent(misses.independent_from) => misses,
                counted => Misses {
                    count: counted.map_or(0, |misses| misses.count) + 1,
                    independent_from: answer.independent_from(),
                },
            };
            (target, misses)
        });
        self.misses = misses.collect();
    }

    /// Until when the doubt about the target holds a change back. Returns `None` if there is no doubt, or if the answer
    /// is independent of the one with which the doubt began.
    pub(super) fn held_until(&self, target: &Target, answer: &Answer) -> Option<Moment> {
        let doubt = self.doubts.get(target);
        let doubt = doubt.filter(|doubt| answer.is_dependent(doubt.independent_from));
        doubt.map(|doubt| doubt.independent_from)
    }

    /// How many independent answers in a row lacked the target's address.
    pub(super) fn misses(&self, target: &Target) -> u32 {
        self.misses.get(target).map_or(0, |misses| misses.count)
    }

    /// The targets whose doubts were not there in the earlier memory.
    pub(super) fn doubted_since(&self, earlier: &Memory) -> impl Iterator<Item = &Target> {
        let doubts = self.doubts.iter();
        let begun = doubts.filter(|(target, doubt)| earlier.doubts.get(target) != Some(doubt));
        begun.map(|(target, _)| target)
    }

    /// Drops the doubts that were not there in the earlier memory.
    pub(super) fn keep_doubts_of(&mut self, earlier: &Memory) {
        self.doubts
            .retain(|target, doubt| earlier.doubts.get(target) == Some(doubt));
    }

    /// True if the doubt is still there and can still be believed.
    pub fn waits_for(&self, held_back: &HeldBack, now: SystemTime) -> bool {
        let doubt = self.doubts.get(&held_back.target);
        doubt.is_some_and(|doubt| doubt.change == held_back.change)
            && now < held_back.until.wall + BELIEVABLE
    }

    /// Forgets a target whose registration or deregistration was acknowledged. If it changes again, that has other reasons.
    pub fn forget(&mut self, target: &Target) {
        self.doubts.remove(target);
        self.misses.remove(target);
    }
}
