//! This module decides what to register and what to deregister. It decides from what DNS says, what the
//! target group has, and what is remembered of earlier reconciles. It is pure: it has no clock, no network
//! and no state. The rules that keep clients connected live in types here. An [`Answer`] without addresses
//! cannot be built, so an outage of DNS can never read as "nobody should serve". A [`Plan`] to apply comes
//! out of one function, [`decide`]. The rules of time are in `plan/belief.rs`.

mod belief;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use ipnet::IpNet;

pub use belief::{ACT, Answer, EFFECT, MARGIN, Moment};
use belief::{Row, is_recent};
pub use target::{DescribedTarget, State, Target};

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

    pub fn targets_to_deregister(&self) -> BTreeSet<Target> {
        self.deregister.iter().map(|stale| stale.target).collect()
    }

    /// True if the endpoint moved away from any target that is to be deregistered.
    pub fn is_failover(&self, answer: &Answer) -> bool {
        let mut stale = self.deregister.iter();
        stale.any(|stale| !answer.contains(stale.target.ip()))
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

/// What an answer and a description say about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// The target is current, and the answer lacks its address.
    Lacks(Target),
    /// The plan would register the target although it drains.
    BringsBack(Target),
    /// A plan that deregisters the target is doubtful.
    Removes(Target),
}

/// What is remembered about one group between reconciles. Its loss only delays a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// What the last answer and description said, and for how long they have said so.
    rows: BTreeMap<Claim, Row>,
    /// When a registration was acknowledged, for as long as that is recent.
    registered: BTreeMap<Target, SystemTime>,
    /// The latest time that was seen.
    latest: Option<SystemTime>,
}

/// What is to be done with the group now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Apply(Plan),
    /// The plan is doubtful, so nothing is done.
    HoldBack(HeldBack),
}

/// A doubtful plan.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldBack {
    pub plan: Plan,
    /// Why the plan is doubtful.
    pub reason: String,
    /// An answer that is asked for at this time or later decides.
    pub until: Moment,
}

impl HeldBack {
    /// True if both are about the same doubt, whatever else the plans have.
    pub fn is_same(&self, other: &HeldBack) -> bool {
        (&self.reason, self.until) == (&other.reason, other.until)
    }
}

/// Plans to register what is desired and not current and to deregister what is stale, or holds that plan
/// back. The memory that comes with the decision is the next one, whatever becomes of the plan.
pub fn decide(
    answer: &Answer,
    described: &[DescribedTarget],
    memory: &Memory,
    policy: Policy<'_>,
) -> (Decision, Memory) {
    let desired = answer.targets(policy.port);
    let (current, draining): (Vec<_>, Vec<_>) =
        described.iter().partition(|target| target.is_current());
    let register = &desired - &targets(&current);
    let is_kept = |target: &Target| {
        let mut cidrs = policy.keep_cidrs.iter();
        cidrs.any(|cidr| cidr.contains(&target.ip()))
    };
    let mut missing = &targets(&current) - &desired;
    missing.retain(|target| !is_kept(target));

    let mut next = memory.as_of(answer);
    let mut new = targets(&current);
    let initial = current.iter().filter(|one| one.state == State::Initial);
    let initial: BTreeSet<_> = initial.map(|one| one.target).collect();
    new.retain(|target| initial.contains(target) || next.registered.contains_key(target));
    let mut brought_back = &register & &targets(&draining);
    brought_back.retain(|_| !current.is_empty());
    let stays_for_sure = !register.is_empty() || !new.is_disjoint(&desired);
    let mut removed_in_doubt = missing.clone();
    removed_in_doubt.retain(|target| new.contains(target) || !stays_for_sure);
    let lacking = missing
        .iter()
        .filter(|target| !answer.contains(target.ip()));
    let claims = lacking.copied().map(Claim::Lacks);
    let claims = claims.chain(brought_back.into_iter().map(Claim::BringsBack));
    let claims = claims.chain(removed_in_doubt.into_iter().map(Claim::Removes));
    next.rows = claims
        .map(|claim| (claim, Row::with(next.rows.get(&claim).copied(), answer)))
        .collect();

    // An answer that names the address does not lack it: the target only has another port than is wanted.
    let is_missed_enough = |target| {
        let lacking = next.rows.get(&Claim::Lacks(target));
        lacking.is_none_or(|row| row.answers > policy.misses_before_deregistration)
    };
    let stale = current
        .into_iter()
        .filter(|one| missing.contains(&one.target) && is_missed_enough(one.target));
    let deregister = stale.cloned().collect();
    let plan = Plan {
        register,
        deregister,
    };
    let decision = match next
        .doubts(&plan, answer)
        .max_by_key(|(claim, row)| (row.independent_from.wall, *claim))
    {
        None => Decision::Apply(plan),
        Some((claim, row)) => Decision::HoldBack(HeldBack {
            reason: claim.reason(&new),
            until: row.independent_from,
            plan,
        }),
    };
    (decision, next)
}

/// Decides by a description of an earlier reconcile. It ends a doubt, but it neither begins nor decides one:
/// the group is described again for that.
pub fn foresee(
    answer: &Answer,
    described: &[DescribedTarget],
    memory: &Memory,
    policy: Policy<'_>,
) -> (Decision, Memory) {
    let (decision, mut next) = decide(answer, described, memory, policy);
    next.rows.retain(|claim, row| match claim {
        Claim::Lacks(_) => true,
        Claim::BringsBack(_) | Claim::Removes(_) => {
            let doubt = memory.rows.get(claim);
            doubt.is_some_and(|doubt| {
                *row = *doubt;
                true
            })
        }
    });
    (decision, next)
}

fn targets(described: &[&DescribedTarget]) -> BTreeSet<Target> {
    described.iter().map(|one| one.target).collect()
}

impl Memory {
    /// Remembers that the registration of these targets was acknowledged, for as long as that is recent.
    pub fn acknowledge(&mut self, targets: &[Target], at: SystemTime) {
        for target in targets {
            self.registered.insert(*target, at);
            self.rows.remove(&Claim::BringsBack(*target));
        }
        self.latest = self.latest.max(Some(at));
    }

    /// Forgets targets whose deregistration was acknowledged. If they are registered again, that has other reasons.
    pub fn forget(&mut self, targets: &BTreeSet<Target>) {
        let is_about = |claim: &Claim| matches!(claim, Claim::Lacks(target) | Claim::Removes(target) if targets.contains(target));
        self.rows.retain(|claim, _| !is_about(claim));
    }

    /// Ends the claims that the description contradicts, if no answer came with it.
    pub fn see(&mut self, described: &[DescribedTarget]) {
        let (current, draining): (Vec<_>, Vec<_>) =
            described.iter().partition(|target| target.is_current());
        let (current, draining) = (targets(&current), targets(&draining));
        self.rows.retain(|claim, _| match claim {
            Claim::Lacks(target) | Claim::Removes(target) => current.contains(target),
            Claim::BringsBack(target) => draining.contains(target) && !current.is_empty(),
        });
    }

    /// The memory that still holds at the time of the answer. A clock that went backwards forgets everything.
    fn as_of(&self, answer: &Answer) -> Memory {
        let asked = Some(answer.asked());
        let mut memory = match self.latest > asked {
            true => Memory::default(),
            false => self.clone(),
        };
        memory.latest = asked;
        memory.registered.retain(|_, at| is_recent(*at, answer));
        memory
    }

    /// The claims that make the plan doubtful and are not believed yet.
    fn doubts(&self, plan: &Plan, answer: &Answer) -> impl Iterator<Item = (Claim, Row)> {
        let registered = plan.register.iter().copied().map(Claim::BringsBack);
        let deregistered = plan.deregister.iter();
        let deregistered = deregistered.map(|stale| Claim::Removes(stale.target));
        let claims = registered.chain(deregistered);
        let doubts = claims.filter_map(|claim| Some((claim, *self.rows.get(&claim)?)));
        doubts.filter(|(_, row)| !row.is_believed(answer))
    }
}

impl Claim {
    /// Says why the claim makes a plan doubtful.
    fn reason(&self, new: &BTreeSet<Target>) -> String {
        match self {
            Claim::BringsBack(target) => format!("{target} is draining, and DNS names it again"),
            Claim::Removes(target) if new.contains(target) => {
                format!("{target} was registered a moment ago, and DNS does not name it")
            }
            Claim::Removes(target) | Claim::Lacks(target) => format!(
                "DNS does not name {target}, but every target that would stay has been there for a long time"
            ),
        }
    }
}
