//! This module records how far a reconcile came.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::plan::{HeldBack, Target};
use crate::target_group::Line;

/// How far a reconcile came. It is written as the reconcile goes on, so that it is true even if the deadline
/// cuts it off.
#[derive(Debug)]
pub struct Progress {
    /// The step that the reconcile is in. It is `None` before the reconcile began.
    pub step: Option<&'static str>,
    pub desired: BTreeSet<Target>,
    pub registered: BTreeSet<Target>,
    pub deregistered: BTreeSet<Target>,
    pub is_failover: bool,
    /// True if any desired target was described as healthy or initial. It is `None` until that is known.
    pub is_served: Option<bool>,
    /// The plan was doubtful, and nothing was changed.
    pub held_back: Option<HeldBack>,
    /// The deadline came before a call had its turn.
    pub is_unsent: bool,
    pub line: Rc<Line>,
}

impl Progress {
    pub fn begin() -> Self {
        Progress {
            step: None,
            desired: BTreeSet::new(),
            registered: BTreeSet::new(),
            deregistered: BTreeSet::new(),
            is_failover: false,
            is_served: None,
            held_back: None,
            is_unsent: false,
            line: Rc::new(Line::begin()),
        }
    }
}
