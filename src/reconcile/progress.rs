//! How far a reconcile came.

use std::collections::BTreeSet;

use crate::plan::{HeldBack, Target};

/// How far a reconcile came, written as it goes: true also when the deadline cuts it.
#[derive(Debug, Default)]
pub struct Progress {
    /// `None` before the reconcile began.
    pub step: Option<&'static str>,
    pub desired: BTreeSet<Target>,
    pub registered: BTreeSet<Target>,
    pub deregistered: BTreeSet<Target>,
    pub is_failover: bool,
    /// Whether any desired target is healthy, once that is known.
    pub has_healthy_target: Option<bool>,
    /// The plan was doubtful, and nothing was changed.
    pub held_back: Option<HeldBack>,
}
