//! What a sandbox remembers about one target group.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::plan::{
    self, Answer, Decision, DescribedTarget, Foresight, HeldBack, Memory, Policy, Target,
};
use crate::target_group::Properties;

/// All of it may be lost. What the group is and has is then described again, and a change for which something
/// was remembered comes later.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// A failure is reported once, and the group is then described again.
    pub properties: Option<Result<Properties, Error>>,
    /// The deadline of the last reconcile came before a call had its turn.
    pub is_unsent: bool,
    memory: Memory,
    /// The last description, if nothing was tried since.
    described: Option<Vec<DescribedTarget>>,
    /// The description is from this invocation.
    is_of_now: bool,
}

/// A group has to be described again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub is_urgent: bool,
}

impl Remembered {
    /// Begins an invocation. Its first reconcile sees what others changed since the last one.
    pub fn begin(&mut self) {
        self.is_of_now = false;
    }

    /// Ends the doubts that the answer contradicts, and decides by the last description if that is enough.
    ///
    /// # Errors
    /// Fails if the group has to be described again.
    pub fn hear(&mut self, answer: &Answer, policy: Policy<'_>) -> Result<Vec<HeldBack>, Due> {
        self.memory.hear(answer, policy.port);
        let foresight = self
            .described
            .as_ref()
            .map(|described| plan::foresee(answer, described, &self.memory, policy));
        match foresight {
            Some(Foresight::Enough(held_back, memory)) if self.is_of_now => {
                self.memory = memory;
                Ok(held_back)
            }
            foresight => Err(Due {
                is_urgent: self.is_unsent || foresight == Some(Foresight::Due),
            }),
        }
    }

    /// Decides by an answer and a description, and remembers what that was based on.
    pub fn decide(
        &mut self,
        answer: &Answer,
        described: &[DescribedTarget],
        registered: &BTreeSet<Target>,
        policy: Policy<'_>,
    ) -> Decision {
        let (decision, memory) = plan::decide(answer, described, registered, &self.memory, policy);
        self.memory = memory;
        (self.described, self.is_of_now) = (Some(described.to_vec()), true);
        decision
    }

    /// A change was sent, so the description does not hold any more.
    pub fn change(&mut self) {
        self.described = None;
    }

    /// Remembers that a registration or a deregistration of these targets was acknowledged.
    pub fn acknowledge<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target>) {
        targets
            .into_iter()
            .for_each(|target| self.memory.forget(target));
    }
}
