//! This module applies a plan, which becomes calls to Elastic Load Balancing. Nothing is decided here.

use std::collections::BTreeMap;

use aws_smithy_async::time::SharedTimeSource;
use tokio::time::Instant;
use tracing::info;

use super::known::Known;
use super::progress::Progress;
use crate::error::{Errors, enumerate};
use crate::log::json;
use crate::plan::{Answer, DescribedTarget, Plan, Target};
use crate::target_group::{Sent, TargetGroup};

/// The number of targets that one call deregisters. The API documents no limit, so it is the same as in the
/// AWS Load Balancer Controller. The next reconcile deregisters what is left.
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/blob/main/pkg/targetgroupbinding/targets_manager.go>
const TARGETS_PER_CALL: usize = 200;

const NEW_CONNECTIONS: &str =
    "new connections reach them once the load balancer finds them healthy";
const OLD_CONNECTIONS: &str = "their connections end when the deregistration delay is over";

/// A plan, and what it is based on.
pub struct Change<'a> {
    pub target_group: TargetGroup<'a>,
    pub plan: Plan,
    pub described: Vec<DescribedTarget>,
    pub answer: Answer,
    /// No call is sent after this time.
    pub act_by: Instant,
}

impl Change<'_> {
    /// Make before break: nothing is deregistered before every target is registered, so that no
    /// failure between the two leaves clients with less than they had.
    ///
    /// # Errors
    /// The errors of [`TargetGroup::register`] and [`TargetGroup::deregister`].
    pub async fn apply(
        &self,
        clock: &SharedTimeSource,
        known: &mut Known,
        progress: &mut Progress,
    ) -> Result<Sent<()>, Errors> {
        let Plan { register, .. } = &self.plan;
        if !register.is_empty() {
            progress.step = Some("registering in");
            self.log("registering", register.iter().copied(), NEW_CONNECTIONS);
            let acknowledge = |targets: &[Target]| {
                progress.registered.extend(targets);
                known.registered(targets, clock.now());
            };
            let register = self
                .target_group
                .register(register, self.act_by, acknowledge);
            if let Sent::TooLate = register.await? {
                return Ok(Sent::TooLate);
            }
        }
        let stale = self
            .plan
            .deregister
            .chunks(TARGETS_PER_CALL)
            .next()
            .unwrap_or_default();
        if !stale.is_empty() {
            progress.step = Some("deregistering from");
            let targets = stale.iter().map(|stale| stale.target);
            self.log("deregistering", targets.clone(), OLD_CONNECTIONS);
            let deregister = self.target_group.deregister(stale, self.act_by);
            if let Sent::TooLate = deregister.await? {
                return Ok(Sent::TooLate);
            }
            progress.deregistered.extend(targets);
            known.deregistered(&progress.deregistered);
            let is_all = stale.len() == self.plan.deregister.len();
            progress.is_failover = is_all && self.plan.is_failover(&self.answer);
        }
        Ok(Sent::Done(()))
    }

    /// Logs the line before a change, with the targets that the group has.
    fn log(&self, verb: &str, targets: impl Iterator<Item = Target>, outcome: &str) {
        let targets: Vec<_> = targets.collect();
        let current = self.described.iter().filter(|one| one.is_current());
        let current: BTreeMap<_, _> = current
            .map(|one| (one.target, one.state.as_str()))
            .collect();
        info!(
            "targetGroupArn" = %self.target_group.arn,
            "json.targets" = json(&targets),
            "json.current" = json(&current),
            "{verb} {}: {outcome}",
            enumerate(&targets)
        );
    }
}
