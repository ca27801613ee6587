//! Two runs may overlap whose resolvers hold different answers in their caches. Each applies what is
//! right by its own answer, and yet together they do harm. The endpoint has moved from A to B, and
//! the second run's resolver still says A:
//!
//! A stale answer that brings a draining target back:
//! 1. The first run registers B and deregisters A, which drains from now on.
//! 2. The second run describes A draining and B. By its answer A is desired and not current, B is
//!    stale: it would register A and deregister B.
//! 3. The failover is undone. It is done again a minute later, and once more undone, for as long as
//!    the caches differ.
//!
//! A stale answer that removes the target which another run registered a moment ago:
//! 1. The first run describes A, and registers B.
//! 2. The second run describes A and B. By its answer B is stale: it will deregister B.
//! 3. The first run deregisters A.
//! 4. The second run deregisters B. Each has deregistered only after a target of its own answer was
//!    there, and the group is empty.
//!
//! What both have in common is that the plan would undo what was done a moment ago, and ELB says so:
//! it registers a target that is `draining`, or deregisters one that is `initial`. Such a plan is
//! doubtful and changes nothing. A stale answer cannot outlive its TTL, so a later one that was
//! asked for after that, and says the same about targets described again, is the truth: the endpoint
//! did move back, or on.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{DescribedTarget, FORGOTTEN_AFTER, Plan, State, Target};

/// What a plan would undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Registers this target, which is draining.
    Register(Target),
    /// Deregisters this target, which is initial.
    Deregister(Target),
}

/// What the last plan would have undone, and since when no cache can be the reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doubts(BTreeMap<Doubt, Instant>);

impl Doubts {
    /// What `plan` would undo, from an answer that `expires`. A doubt that is not new keeps the
    /// moment of its first answer, unless that was forgotten.
    pub fn about(
        &self,
        plan: &Plan,
        described: &[DescribedTarget],
        expires: Instant,
        now: Instant,
    ) -> Doubts {
        let since = |doubt| {
            let first = self.0.get(&doubt).copied();
            let first = first.filter(|first| *first + FORGOTTEN_AFTER > now);
            (doubt, first.unwrap_or(expires))
        };
        Doubts(undone(plan, described).map(since).collect())
    }

    /// When an answer can be believed; `None` is now.
    pub fn look_again_at(&self, now: Instant) -> Option<Instant> {
        let latest = self.0.values().max().copied();
        latest.filter(|latest| *latest > now)
    }
}

fn undone<'a>(
    plan: &'a Plan,
    described: &'a [DescribedTarget],
) -> impl Iterator<Item = Doubt> + 'a {
    let draining = described
        .iter()
        .filter(|target| target.state == State::Draining && plan.register.contains(&target.target))
        .map(|described| Doubt::Register(described.target));
    let initial = plan
        .deregister
        .iter()
        .filter(|stale| stale.state == State::Initial)
        .map(|stale| Doubt::Deregister(stale.target));
    draining.chain(initial)
}
