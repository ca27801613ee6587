//! Decides what is done to one target group now and what is held back, from what DNS says, what the target group has, and
//! what is remembered of earlier reconciles. Deciding is pure: it has no clock, no network and no state. An [`Answer`]
//! without addresses cannot be built, so an outage of DNS can never read as "nobody should serve".

mod answer;
mod comparison;
mod doubt;
mod target;

use std::collections::BTreeSet;

use ipnet::IpNet;

pub use answer::{ACT, Answer, EFFECT, MARGIN, Moment};
use comparison::Comparison;
pub use doubt::{Change, Memory};
pub use target::{DescribedTarget, State, Target};

/// An answer with more addresses in one group is refused. No cluster has them, but a hostile answer may.
pub const MAX_ADDRESSES: usize = 100;

/// What to do to one target group: register, then deregister.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub register: BTreeSet<Target>,
    pub deregister: Vec<DescribedTarget>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.register.is_empty() && self.deregister.is_empty()
    }
}

/// What the deployment wants, in addition to what DNS says.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The port that is registered for every address.
    pub port: u16,
    /// Targets in these ranges are never deregistered.
    pub keep_cidrs: &'a [IpNet],
    /// How many independent answers in a row may lack a current target before one more of them
    /// deregisters it.
    pub misses_before_deregistration: u32,
}

/// What is done with the group now, and what is not done yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    pub now: Plan,
    pub held_back: Vec<HeldBack>,
}

/// A change that waits for an independent answer.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldBack {
    pub target: Target,
    pub change: Change,
    pub reason: String,
    /// An answer that is asked for at this time or later decides.
    pub until: Moment,
}

/// Decides to register what is desired and not current, and to deregister what is stale. `registered` is what this
/// reconcile has registered already. The memory that comes with the decision is the next one, whatever becomes of it.
///
/// 1. Fresh targets are registered at once. An answer in part decides nothing else.
/// 2. What is [doubtful](Comparison::doubtful) is held back until it is believed.
/// 3. A target is stale once enough independent answers in a row have lacked its address.
/// 4. Nothing is deregistered unless a desired target stays.
pub fn decide(
    answer: &Answer,
    described: &[DescribedTarget],
    registered: &BTreeSet<Target>,
    memory: &Memory,
    policy: Policy<'_>,
) -> (Decision, Memory) {
    let mut next = memory.clone();
    next.hear(answer, policy.port);
    next.see(described);
    let compared = Comparison::new(answer, described, policy);
    let Decision {
        mut now,
        mut held_back,
    } = Decision::default();
    now.register.extend(&compared.fresh);
    if answer.is_partial {
        let room = MAX_ADDRESSES.saturating_sub(compared.current.len());
        now.register = compared.fresh.into_iter().take(room).collect();
        return (Decision { now, held_back }, next);
    }
    next.doubt(compared.doubtful(registered), answer);
    next.miss(compared.lacking(answer), answer);

    for target in &compared.back {
        match next.held_until(target, answer) {
            None => _ = now.register.insert(*target),
            Some(until) => held_back.push(HeldBack {
                target: *target,
                change: Change::BringBack,
                reason: format!("{target} is draining, and DNS names it again"),
                until,
            }),
        }
    }
    // Where no desired target stays, every one of them drains and is held back.
    let until = held_back.iter().map(|held| held.until);
    let until = until.min_by_key(|until| until.wall);
    let floor = until.filter(|_| !compared.stays(&now.register));
    for target in &compared.missing {
        let is_stale = answer.contains(target.ip())
            || next.misses(target) > policy.misses_before_deregistration;
        match next.held_until(target, answer).or(floor) {
            _ if !is_stale => (),
            None => now.deregister.push(compared.current[target].clone()),
            Some(until) => held_back.push(HeldBack {
                target: *target,
                change: Change::Remove,
                reason: compared.reason_to_stay(target, next.held_until(target, answer).is_none()),
                until,
            }),
        }
    }
    (Decision { now, held_back }, next)
}

/// What a decision by an earlier description is worth.
#[derive(Debug, Clone, PartialEq)]
pub enum Foresight {
    /// Nothing can be done, and no doubt begins. The memory is the next one.
    Enough(Vec<HeldBack>, Memory),
    /// The group has to be described again, because something can be done.
    Due,
    /// The group has to be described again, because a doubt begins.
    Doubtful,
}

/// Decides by a description that was made before the answer was asked for.
pub fn foresee(
    answer: &Answer,
    described: &[DescribedTarget],
    memory: &Memory,
    policy: Policy<'_>,
) -> Foresight {
    let (Decision { now, held_back }, mut next) =
        decide(answer, described, &BTreeSet::new(), memory, policy);
    next.keep_doubts_of(memory);
    let mut targets = held_back.iter().map(|held| &held.target);
    match targets.all(|target| next.is_doubted(target)) {
        _ if !now.is_empty() => Foresight::Due,
        true => Foresight::Enough(held_back, next),
        false => Foresight::Doubtful,
    }
}
