//! What is known about one group between reconciles. It spares calls to Elastic Load Balancing.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::pace::Read;
use crate::plan::{
    Answer, Decision, DescribedTarget, HeldBack, Memory, Plan, Policy, Target, decide, foresee,
};
use crate::target_group::{Properties, Sent};

/// All of it may be lost. What the group is and has is then described again, and a change for which something
/// was remembered comes later.
#[derive(Debug, Default)]
pub struct Known {
    pub properties: Option<Properties>,
    /// The deadline of the last invocation came before a call had its turn.
    pub is_left_over: bool,
    memory: Memory,
    /// What the group had when it was last described, without what was deregistered since.
    described: Option<Vec<DescribedTarget>>,
    standing: Standing,
    /// The plan that the last description left undone.
    held_back: Option<Plan>,
}

/// How far the last description can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Standing {
    /// The description is from an earlier invocation.
    #[default]
    Earlier,
    /// A change was tried since the description, or a description failed.
    Changed,
    /// The description is from this invocation, and nothing was tried since.
    Settled,
}

impl Known {
    /// Begins an invocation. Its first reconcile sees what others changed since the last one.
    pub fn begin(&mut self) {
        if self.standing == Standing::Settled {
            self.standing = Standing::Earlier;
        }
    }

    /// True if the group has to be described, whatever DNS says.
    pub fn is_due(&self) -> bool {
        self.standing != Standing::Settled
    }

    /// How urgently the group is to be described, as far as that is known without an answer.
    pub fn urgency(&self, answer: Option<&Answer>, policy: Policy<'_>) -> Read {
        let Some(described) = &self.described else {
            return match self.is_left_over {
                true => Read::LeftOver,
                false => Read::Unknown,
            };
        };
        let is_believed = |answer| {
            let (decision, _) = foresee(answer, described, &self.memory, policy);
            matches!(decision, Decision::Apply(plan) if self.held_back.as_ref() == Some(&plan))
        };
        match answer {
            Some(answer) if answer.has_more_than(described) => Read::Moved,
            _ if self.is_left_over => Read::LeftOver,
            Some(answer) if is_believed(answer) => Read::Believed,
            _ if self.standing == Standing::Earlier => Read::Settled,
            _ => Read::Changed,
        }
    }

    /// Decides by the last description, if that is enough: nothing is to be done, or the plan that was held
    /// back still is. Returns `None` if the group has to be described.
    pub fn foresee(&mut self, answer: &Answer, policy: Policy<'_>) -> Option<Option<HeldBack>> {
        let described = self.described.as_ref().filter(|_| !self.is_due())?;
        let (decision, memory) = foresee(answer, described, &self.memory, policy);
        let held_back = match decision {
            Decision::Apply(plan) if plan.is_empty() => None,
            Decision::HoldBack(held_back) if self.held_back.as_ref() == Some(&held_back.plan) => {
                Some(held_back)
            }
            Decision::Apply(_) | Decision::HoldBack(_) => return None,
        };
        self.memory = memory;
        Some(held_back)
    }

    /// Decides by an answer and a description, and remembers what that was based on.
    pub fn decide(
        &mut self,
        answer: &Answer,
        described: &[DescribedTarget],
        policy: Policy<'_>,
    ) -> Decision {
        let (decision, memory) = decide(answer, described, &self.memory, policy);
        self.memory = memory;
        self.described = Some(described.to_vec());
        self.held_back = None;
        self.standing = match &decision {
            Decision::Apply(plan) if !plan.is_empty() => Standing::Changed,
            Decision::Apply(_) => Standing::Settled,
            Decision::HoldBack(held_back) => {
                self.held_back = Some(held_back.plan.clone());
                Standing::Settled
            }
        };
        decision
    }

    /// Decides what would be done, and remembers nothing.
    pub fn dry_run(
        &self,
        answer: &Answer,
        described: &[DescribedTarget],
        policy: Policy<'_>,
    ) -> Decision {
        decide(answer, described, &self.memory, policy).0
    }

    /// Remembers what there is when something failed or came too late. An answer counts for what was
    /// described before, and a description ends what it contradicts.
    pub fn see_in_part(
        &mut self,
        answer: Option<&Answer>,
        described: Option<&Sent<Vec<DescribedTarget>>>,
        policy: Policy<'_>,
    ) {
        match described {
            Some(Sent::Done(described)) => {
                self.memory.see(described);
                self.described = Some(described.clone());
                (self.held_back, self.standing) = (None, Standing::Settled);
            }
            Some(Sent::TooLate) => (),
            None => self.standing = Standing::Changed,
        }
        if let (Some(answer), Some(described)) = (answer, &self.described) {
            self.memory = foresee(answer, described, &self.memory, policy).1;
            self.standing = Standing::Changed;
        }
    }

    /// No call of the plan had its turn, so the description still holds.
    pub fn spared(&mut self) {
        self.standing = Standing::Settled;
    }

    /// Remembers that a registration was acknowledged.
    pub fn registered(&mut self, targets: &[Target], at: SystemTime) {
        self.memory.acknowledge(targets, at);
    }

    /// Remembers that a deregistration was acknowledged.
    pub fn deregistered(&mut self, targets: &BTreeSet<Target>) {
        self.memory.forget(targets);
        let described = self.described.iter_mut();
        described.for_each(|described| described.retain(|one| !targets.contains(&one.target)));
    }
}
