//! Decide: what to register and what to deregister, from what DNS says, what the target group has,
//! and what is remembered of earlier reconciles. Pure: no clock, no network, no state. The rules
//! that keep clients connected live in types here: an [`Answer`] without addresses cannot be built,
//! so an outage of DNS can never read as "nobody should serve", and a [`Plan`] to apply comes out of
//! one function, [`decide`].

mod answer;
mod doubt;
mod misses;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;
use tokio::time::Instant;

pub use answer::Answer;
use doubt::{Doubts, undoes_a_change};
use misses::Misses;

/// Address and port, as the target group knows it. Ordered as the result lists them: IPv4 before
/// IPv6, numerically, then by port; written `10.0.2.9:6379` or `[2001:db8::9]:6379`.
pub type Target = SocketAddr;

/// The states of a target that decide something, as ELB names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Registered a moment ago: not health-checked yet.
    Initial,
    /// Deregistered a moment ago: finishing its connections.
    Draining,
    /// Registered, whatever its health.
    Registered,
}

/// A target as `DescribeTargetHealth` returned it. `id` and `zone` are kept to the letter, since
/// deregistering is passed back what was described.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescribedTarget {
    pub target: Target,
    pub id: String,
    pub zone: Option<String>,
    pub state: State,
}

impl DescribedTarget {
    fn is_current(&self) -> bool {
        self.state != State::Draining
    }
}

/// What to do to one target group: register, then deregister.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub register: BTreeSet<Target>,
    pub deregister: Vec<DescribedTarget>,
}

/// What the deployment wants, beside what DNS says.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Registered for every address.
    pub port: u16,
    /// Targets in these ranges are never deregistered.
    pub keep_cidrs: &'a [IpNet],
    /// How many reconciles in a row a current target may be missing from the answers and stay.
    pub misses_before_deregistration: u32,
    /// Whether this reconcile counts for that: those of a notification come at another pace.
    pub is_counting: bool,
}

/// What is remembered of one group between reconciles. Its loss only delays a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    misses: Misses,
    doubts: Doubts,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Apply(Plan),
    /// Nothing: the plan is doubtful. An answer asked for from then on tells.
    Doubt {
        plan: Plan,
        look_again_at: Instant,
    },
}

/// Registers what is desired and not current, deregisters what is stale; or doubts that, and says
/// when to look again. `now` is before the answer was asked for.
///
/// The memory that comes with the decision is the next one once the decision was carried out; until
/// then the old one stays.
pub fn decide(
    answer: &Answer,
    described: &[DescribedTarget],
    memory: &Memory,
    policy: Policy<'_>,
    now: Instant,
) -> (Decision, Memory) {
    let desired = answer.targets(policy.port);
    let current = || described.iter().filter(|target| target.is_current());
    let current_targets: BTreeSet<_> = current().map(|described| described.target).collect();
    let is_kept = |target: &Target| {
        policy
            .keep_cidrs
            .iter()
            .any(|cidr| cidr.contains(&target.ip()))
    };
    let missing = (&current_targets - &desired)
        .into_iter()
        .filter(|target| !is_kept(target));

    let misses = memory.misses.with(missing, policy, now);
    let plan = Plan {
        register: &desired - &current_targets,
        deregister: current()
            .filter(|described| misses.is_stale(&described.target))
            .cloned()
            .collect(),
    };
    let believed_from = answer.outlives_older_ones_from();
    let doubts = memory.doubts.about(&plan, described, believed_from, now);
    match doubts.look_again_at(now) {
        Some(look_again_at) => {
            // Of targets that were there for long the answers are counted on, or ten that are missing
            // would wait for ten TTLs.
            let misses = match undoes_a_change(&plan, described) {
                true => memory.misses.clone(),
                false => misses.next,
            };
            let decision = Decision::Doubt {
                plan,
                look_again_at,
            };
            (decision, Memory { misses, doubts })
        }
        None => {
            let (misses, doubts) = (misses.next, Doubts::default());
            (Decision::Apply(plan), Memory { misses, doubts })
        }
    }
}
