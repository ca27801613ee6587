//! An answer beside a description.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Answer;
use super::doubt::{Change, Doubtful};
use super::target::{DescribedTarget, State, Target};
use super::{Done, Policy};

/// What an answer and a description say together about the targets of a group.
pub(super) struct Comparison<'a> {
    pub desired: BTreeSet<Target>,
    pub current: BTreeMap<Target, &'a DescribedTarget>,
    /// Desired, and neither current nor draining.
    pub fresh: BTreeSet<Target>,
    /// Desired, but draining.
    pub back: BTreeSet<Target>,
    /// Current, and neither desired nor kept.
    pub missing: BTreeSet<Target>,
}

impl<'a> Comparison<'a> {
    pub fn new(answer: &Answer, described: &'a [DescribedTarget], policy: Policy<'_>) -> Self {
        let desired = answer.targets(policy.port);
        let described = described.iter().map(|one| (one.target, one));
        let (current, draining): (BTreeMap<_, _>, BTreeMap<_, _>) =
            described.partition(|(_, one)| one.is_current());
        let absent = desired.iter().copied();
        let absent = absent.filter(|one| !current.contains_key(one));
        let (back, fresh) = absent.partition(|one| draining.contains_key(one));
        let is_kept = |one: &Target| {
            let mut cidrs = policy.keep_cidrs.iter();
            cidrs.any(|cidr| cidr.contains(&one.ip()))
        };
        let missing = current.keys().copied();
        let missing = missing.filter(|one| !desired.contains(one) && !is_kept(one));
        Comparison {
            missing: missing.collect(),
            desired,
            current,
            fresh,
            back,
        }
    }

    /// What may rest on a stale answer:
    ///
    /// 1. bringing back a target that drains, while another target is current,
    /// 2. deregistering a target that is initial,
    /// 3. deregistering while nothing new takes its place: neither a fresh target nor one that this reconcile has
    ///    registered for that.
    pub fn doubtful(&self, done: &Done) -> impl Iterator<Item = Doubtful> {
        let mut registered = done.registered.intersection(&self.desired);
        let stays = registered.any(|one| self.current.contains_key(one));
        let is_replaced =
            move |one: &Target| !self.fresh.is_empty() || (stays && done.replaced.contains(one));
        let back = self.back.iter().filter(|_| !self.current.is_empty());
        let back = back.map(|one| (one, Change::BringBack));
        let removed = self.missing.iter();
        let removed = removed.filter(move |one| self.is_initial(one) || !is_replaced(one));
        let doubtful = back.chain(removed.map(|one| (one, Change::Remove)));
        doubtful.map(|(target, change)| Doubtful {
            target: *target,
            change,
            is_initial: change == Change::Remove && self.is_initial(target),
        })
    }

    fn is_initial(&self, target: &Target) -> bool {
        self.current[target].state == State::Initial
    }

    /// The targets that would go and whose address the answer lacks. Of an address that it names, only the port is wrong.
    pub fn lacking(&self, answer: &Answer) -> impl Iterator<Item = Target> {
        let missing = self.missing.iter().copied();
        missing.filter(|one| !answer.contains(one.ip()))
    }

    /// True if a desired target serves once these are registered.
    pub fn stays(&self, registered: &BTreeSet<Target>) -> bool {
        let mut desired = self.desired.iter();
        desired.any(|one| self.current.contains_key(one) || registered.contains(one))
    }

    /// Says why a stale target is not deregistered.
    pub fn reason_to_stay(&self, target: &Target, is_believed: bool) -> String {
        match is_believed {
            true => {
                format!("DNS does not name {target}, but no target that it names can take over yet")
            }
            false if self.is_initial(target) => {
                format!("{target} was registered a moment ago, and DNS does not name it")
            }
            false => {
                format!("DNS does not name {target}, but no new target takes over from it now")
            }
        }
    }
}
