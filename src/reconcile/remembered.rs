//! What a sandbox remembers about one target group.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::error::Error;
use crate::plan::{
    self, Answer, DescribedTarget, Done, Due, HeldBack, Memory, Plan, Policy, Target,
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
    /// What the last decision held back.
    held_back: Vec<HeldBack>,
    /// The last description, if nothing was tried since.
    described: Option<Vec<DescribedTarget>>,
    /// The description holds in this invocation.
    is_of_now: bool,
    /// When the last invocation began whose first reconcile was to describe the targets.
    swept_at: Option<Instant>,
    /// The last description showed a desired target that is healthy or initial.
    is_served: bool,
}

impl Remembered {
    /// Begins an invocation. If its first reconcile describes the targets, it sees what others changed since the last
    /// one.
    pub fn begin(&mut self, is_described: bool) {
        self.is_of_now = !is_described;
        if is_described {
            self.swept_at = Some(Instant::now());
        }
    }

    /// True if the last decision did nothing and held nothing back.
    pub fn is_settled(&self) -> bool {
        self.described.is_some() && self.held_back.is_empty() && !self.is_unsent
    }

    /// True if a desired target was healthy or initial when the targets were described last.
    pub fn is_served(&self) -> bool {
        self.is_served
    }

    /// When the targets were to be described last. A group whose name cannot be resolved has its turn like the others.
    pub fn swept_at(&self) -> Option<Instant> {
        self.swept_at
    }

    /// Remembers whether a desired target serves, if that is known.
    pub fn see(&mut self, is_served: Option<bool>) {
        self.is_served = is_served.unwrap_or(self.is_served);
    }

    /// Ends the doubts that the answer contradicts, and decides by the last description if that is enough.
    ///
    /// # Errors
    /// Fails if the group has to be described again.
    pub fn foresee(&mut self, answer: &Answer, policy: Policy<'_>) -> Result<(), Due> {
        self.memory.end_by_answer(answer, policy.port);
        let unknown = Err(Due { is_urgent: false });
        let described = self.described.as_ref();
        let foreseen = described.map_or(unknown, |described| {
            plan::foresee(answer, described, &self.memory, policy)
        });
        match foreseen {
            Ok((held_back, memory)) if self.is_of_now => {
                self.remember(answer, held_back, memory);
                Ok(())
            }
            foreseen => Err(Due {
                is_urgent: self.is_unsent || foreseen.is_err_and(|due| due.is_urgent),
            }),
        }
    }

    /// Decides by an answer and a description, and remembers what that was based on. Returns what is done now.
    pub fn decide(
        &mut self,
        answer: &Answer,
        described: &[DescribedTarget],
        done: &Done,
        policy: Policy<'_>,
    ) -> Plan {
        let (decision, memory) = plan::decide(answer, described, done, &self.memory, policy);
        self.remember(answer, decision.held_back, memory);
        (self.described, self.is_of_now) = (Some(described.to_vec()), true);
        decision.now
    }

    /// An answer in part holds nothing back, and says nothing about what is.
    fn remember(&mut self, answer: &Answer, held_back: Vec<HeldBack>, memory: Memory) {
        self.memory = memory;
        if !answer.is_partial {
            self.held_back = held_back;
        }
    }

    /// What is held back. A failed reconcile learns nothing, so the earlier doubts stand.
    pub fn held_back(&self, now: SystemTime) -> Vec<HeldBack> {
        let held_back = self.held_back.iter();
        let held_back = held_back.filter(|held| self.memory.waits_for(held, now));
        held_back.cloned().collect()
    }

    /// Forgets the description, and returns it: it does not hold any more once a change is sent.
    pub fn forget_description(&mut self) -> Option<Vec<DescribedTarget>> {
        self.described.take()
    }

    /// Remembers the description again, because no change was sent.
    pub fn restore_description(&mut self, described: Option<Vec<DescribedTarget>>) {
        self.described = described;
    }

    /// Remembers that a registration or a deregistration of these targets was acknowledged.
    pub fn acknowledge<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target>) {
        for target in targets {
            self.memory.forget(target);
        }
    }
}
