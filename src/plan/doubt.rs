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
//! Two answers about targets that were both there for long:
//! 1. A and B are healthy: A could not be deregistered at an earlier failover, or somebody registered
//!    both by hand.
//! 2. The first run describes A and B, and deregisters A.
//! 3. The second run, which described them at the same time, deregisters B, and the group is empty.
//!
//! The first two would undo what was done a moment ago, and ELB says so: the plan registers a target
//! that is `draining`, or deregisters one that is `initial`. In the third ELB says nothing, and so a
//! plan has to have something that stays and that no other run removes without a doubt: a target that
//! it registers, or one that is `initial`. Any other plan is doubtful and changes nothing. A cache
//! gives no answer beyond its TTL, so a later one that was asked for after that, and says the same
//! about targets described again, is believed: the endpoint did move back, or on.
//!
//! A call that takes long, by an answer that was good when it was sent:
//! 1. The first run has registered B and deregisters A. The call hangs.
//! 2. The endpoint moves back to A. The second run describes A and B, finds it doubtful to deregister
//!    B, waits for the TTL, and believes.
//! 3. The first run's call is tried again and takes effect. The second run deregisters B, and the
//!    group is empty.
//!
//! So nobody deregisters by an answer whose TTL is over for longer than a second, and a doubt is
//! believed only when what was sent until then has taken effect: 4.5 s after the TTL.
//!
//! That is as good as the resolver: of several caches behind one name server, or of several name
//! servers, one may hold the stale answer for longer than the TTL that another one gave it with.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{DescribedTarget, Plan, State, Target};

/// How long a doubt about a target that is new or draining waits for the next look once it can be
/// believed: more than a minute, so that a schedule's next tick finds it, and less than it takes a
/// target to leave `initial`, so that it says nothing about a later failover, of which this sandbox saw
/// nothing. On a slower schedule such a target is neither any more at the next tick. Another doubt has
/// no such end.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(75);

/// What a plan would do and should perhaps not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Register(Target),
    Deregister(Target),
}

/// What was doubtful in the last plan, and from when on it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doubts(BTreeMap<Doubt, Instant>);

impl Doubts {
    /// What is doubtful in `plan`, which is by an answer that can be `believed_from` then on. A doubt
    /// that is not new keeps the moment of its first answer, unless that was forgotten.
    pub fn about(
        &self,
        plan: &Plan,
        described: &[DescribedTarget],
        believed_from: Instant,
        now: Instant,
    ) -> Doubts {
        let since = |(doubt, is_passing): (Doubt, bool)| {
            let first = self.0.get(&doubt).copied();
            let first = first.filter(|first| !is_passing || *first + FORGOTTEN_AFTER > now);
            (doubt, first.unwrap_or(believed_from))
        };
        let registered =
            brought_back(plan, described).map(|target| (Doubt::Register(target), true));
        let deregistered = removed_in_doubt(plan, described)
            .map(|stale| (Doubt::Deregister(stale.target), is_new(stale)));
        Doubts(registered.chain(deregistered).map(since).collect())
    }

    /// When an answer can be believed; `None` is now.
    pub fn look_again_at(&self, now: Instant) -> Option<Instant> {
        let latest = self.0.values().max().copied();
        latest.filter(|latest| *latest > now)
    }
}

/// Whether it would undo what was done a moment ago.
pub fn undoes_a_change(plan: &Plan, described: &[DescribedTarget]) -> bool {
    brought_back(plan, described).next().is_some() || plan.deregister.iter().any(is_new)
}

/// Registered though they drain.
fn brought_back(plan: &Plan, described: &[DescribedTarget]) -> impl Iterator<Item = Target> {
    let draining = described
        .iter()
        .filter(|target| target.state == State::Draining);
    draining
        .map(|draining| draining.target)
        .filter(|target| plan.register.contains(target))
}

/// Deregistered though they are initial, or though nothing that stays is new.
fn removed_in_doubt<'a>(
    plan: &'a Plan,
    described: &[DescribedTarget],
) -> impl Iterator<Item = &'a DescribedTarget> {
    let mut staying = described
        .iter()
        .filter(|target| !plan.deregister.contains(target));
    let is_safe = !plan.register.is_empty() || staying.any(is_new);
    let stale = plan.deregister.iter();
    stale.filter(move |stale| is_new(stale) || !is_safe)
}

fn is_new(target: &DescribedTarget) -> bool {
    target.state == State::Initial
}
