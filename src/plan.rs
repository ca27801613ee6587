//! Decides what is done to one target group now and what is held back, from what DNS says, what the target group has, and
//! what is remembered of earlier reconciles. Deciding is pure: it has no clock, no network and no state. An [`Answer`]
//! without addresses cannot be built, so an outage of DNS can never read as "nobody should serve".

mod answer;
mod comparison;
mod doubt;
mod target;

use std::collections::BTreeSet;

use ipnet::IpNet;

pub use answer::{ACT, Answer, EFFECT, MARGIN, Moment, RESOLVE};
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

/// What a reconcile did before it started again.
#[derive(Debug, Default)]
pub struct Done {
    pub registered: BTreeSet<Target>,
    /// What it decided to deregister in the place of these.
    pub replaced: BTreeSet<Target>,
}

/// Decides to register what is desired and not current, and to deregister what is stale. The memory that comes with the
/// decision is the next one, whatever becomes of it.
///
/// 1. Fresh targets are registered at once. An answer in part decides nothing else.
/// 2. What is doubtful is held back until it is believed.
/// 3. A target is stale once enough independent answers in a row have lacked its address.
/// 4. Nothing is deregistered unless a desired target stays.
pub fn decide(
    answer: &Answer,
    described: &[DescribedTarget],
    done: &Done,
    memory: &Memory,
    policy: Policy<'_>,
) -> (Decision, Memory) {
    let mut next = memory.clone();
    next.end_by_answer(answer, policy.port);
    next.end_by_description(described);
    let compared = Comparison::new(answer, described, policy);
    let (mut now, mut held_back) = (Plan::default(), Vec::new());
    let room = match answer.is_partial {
        true => MAX_ADDRESSES.saturating_sub(compared.current.len()),
        false => MAX_ADDRESSES,
    };
    now.register = compared.fresh.iter().copied().take(room).collect();
    if answer.is_partial {
        return (Decision { now, held_back }, next);
    }
    next.doubt(compared.doubtful(done), answer);
    next.count_misses(compared.lacking(answer), answer);

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
        let doubt = next.held_until(target, answer);
        match doubt.or(floor) {
            _ if !is_stale => (),
            None => now.deregister.push(compared.current[target].clone()),
            Some(until) => held_back.push(HeldBack {
                target: *target,
                change: Change::Remove,
                reason: compared.reason_to_stay(target, doubt.is_none()),
                until,
            }),
        }
    }
    (Decision { now, held_back }, next)
}

/// A group has to be described before anything is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Something can be done.
    pub is_urgent: bool,
}

/// Decides by a description that was made before the answer was asked for, which changes nothing. Returns what is held
/// back, and the next memory.
///
/// # Errors
/// Fails if something can be done or a doubt begins, since that takes a new description. A doubt also begins about a
/// target that the next miss makes stale.
pub fn foresee(
    answer: &Answer,
    described: &[DescribedTarget],
    memory: &Memory,
    policy: Policy<'_>,
) -> Result<(Vec<HeldBack>, Memory), Due> {
    let (Decision { now, held_back }, mut next) =
        decide(answer, described, &Done::default(), memory, policy);
    let begins = |target: &Target| {
        next.misses(target) >= policy.misses_before_deregistration
            || held_back.iter().any(|held| held.target == *target)
    };
    let is_urgent = !now.is_empty();
    if is_urgent || next.doubted_since(memory).any(begins) {
        return Err(Due { is_urgent });
    }
    next.keep_doubts_of(memory);
    Ok((held_back, next))
}
