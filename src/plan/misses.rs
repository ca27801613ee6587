//! A name that answers with a part of its addresses at a time: how many reconciles in a row a
//! current target has been missing from the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Policy, Target};

/// A miss that long ago says nothing about now: the sandbox slept while others worked.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Miss {
    in_a_row: u32,
    last: Instant,
}

/// The current targets that the last answer missed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Misses(BTreeMap<Target, Miss>);

/// What one more answer makes of it.
pub struct Counted {
    /// What to remember.
    pub next: Misses,
    /// Missing more often than the policy allows.
    stale: BTreeSet<Target>,
}

impl Misses {
    /// With the targets that are missing now. Those that are not start again from nothing.
    pub fn with(
        &self,
        missing: impl Iterator<Item = Target>,
        policy: Policy<'_>,
        now: Instant,
    ) -> Counted {
        let allowed = policy.misses_before_deregistration;
        let missing: BTreeMap<_, _> = missing
            .map(|target| {
                let in_a_row = self.in_a_row(&target, now) + 1;
                (
                    target,
                    Miss {
                        in_a_row,
                        last: now,
                    },
                )
            })
            .collect();
        let is_stale =
            |miss: &Miss| allowed == 0 || (policy.is_counting && miss.in_a_row > allowed);
        let stale = missing.iter().filter(|(_, miss)| is_stale(miss));
        Counted {
            stale: stale.map(|(target, _)| *target).collect(),
            next: if policy.is_counting {
                Misses(missing)
            } else {
                self.clone()
            },
        }
    }

    fn in_a_row(&self, target: &Target, now: Instant) -> u32 {
        let recent = self
            .0
            .get(target)
            .filter(|miss| now.saturating_duration_since(miss.last) < FORGOTTEN_AFTER);
        recent.map_or(0, |miss| miss.in_a_row)
    }
}

impl Counted {
    pub fn is_stale(&self, target: &Target) -> bool {
        self.stale.contains(target)
    }
}
