//! What became of a reconcile.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::Errors;
use crate::plan::{Change, HeldBack, Plan, Target};

/// A step of a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    #[default]
    DescribeGroup,
    Resolve,
    DescribeTargets,
    Register,
    Deregister,
    Wait,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::DescribeGroup => "describing the target group",
            Step::Resolve => "resolving the endpoints of",
            Step::DescribeTargets => "describing the targets of",
            Step::Register => "registering in",
            Step::Deregister => "deregistering from",
            Step::Wait => "waiting to send a call about",
        })
    }
}

/// What became of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The step in which the reconcile ended.
    pub step: Step,
    /// The desired targets. It is empty if there was no answer in full.
    pub desired: BTreeSet<Target>,
    pub registered: BTreeSet<Target>,
    pub deregistered: BTreeSet<Target>,
    pub is_failover: bool,
    /// True if any desired target was described as healthy or initial. It is `None` if that is not known.
    pub is_served: Option<bool>,
    pub held_back: Vec<HeldBack>,
    /// The deadline came before a call had its turn.
    pub is_unsent: bool,
    /// The group was listed, and does not exist.
    pub is_gone: bool,
    pub errors: Option<Errors>,
}

impl Outcome {
    pub fn is_changed(&self) -> bool {
        !self.registered.is_empty() || !self.deregistered.is_empty()
    }

    /// Adds what would change, now or when it is believed.
    pub(super) fn add_dry_run(&mut self, now: Plan) {
        let stale = now.deregister.iter().map(|stale| stale.target);
        self.deregistered = stale.collect();
        self.registered = now.register;
        for held in &self.held_back {
            let targets = match held.change {
                Change::BringBack => &mut self.registered,
                Change::Remove => &mut self.deregistered,
            };
            targets.insert(held.target);
        }
        let mut deregistered = self.deregistered.iter();
        self.is_failover = deregistered.any(|target| self.has_left(*target));
    }

    /// True if the endpoint has left the target's address.
    pub(super) fn has_left(&self, target: Target) -> bool {
        let mut desired = self.desired.iter();
        desired.all(|desired| desired.ip() != target.ip())
    }
}
