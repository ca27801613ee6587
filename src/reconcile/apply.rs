//! Applies a plan, which becomes calls to Elastic Load Balancing. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::time::Instant;
use tracing::info;

use super::Reconcile;
use super::outcome::Step;
use crate::error::{Errors, enumerate};
use crate::log::json;
use crate::plan::{DescribedTarget, Plan, Target};
use crate::target_group::Stop;

/// The number of targets that one call deregisters. The API documents no limit, so it is the same as in the
/// AWS Load Balancer Controller.
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/blob/main/pkg/targetgroupbinding/targets_manager.go>
const TARGETS_PER_CALL: usize = 200;

const NEW_CONNECTIONS: &str =
    "new connections reach them once the load balancer finds them healthy";
const OLD_CONNECTIONS: &str = "their connections end when the deregistration delay is over";

impl<P: RuntimeProvider> Reconcile<'_, P> {
    /// Make before break: nothing is deregistered before every target is registered, so that no
    /// failure between the two leaves clients with less than they had.
    ///
    /// # Errors
    /// The errors of [`TargetGroup::register`](crate::target_group::TargetGroup::register) and
    /// [`TargetGroup::deregister`](crate::target_group::TargetGroup::deregister).
    pub(super) async fn apply(
        &mut self,
        plan: Plan,
        described: &[DescribedTarget],
        act_by: Instant,
    ) -> Result<(), Stop<Errors>> {
        if !plan.register.is_empty() {
            let replaced = plan.deregister.iter().map(|stale| stale.target);
            self.done.replaced.extend(replaced);
        }
        // The deadline may cut off what follows, and a description does not outlive a change.
        let description = self.remembered.forget_description();
        let sent = self.target_group.changes.sent;
        let mut applied = self.register(&plan.register, described, act_by).await;
        if applied.is_ok() {
            applied = self.deregister(&plan.deregister, described, act_by).await;
        }
        if self.target_group.changes.sent == sent {
            self.remembered.restore_description(description);
        }
        applied
    }

    async fn register(
        &mut self,
        targets: &BTreeSet<Target>,
        described: &[DescribedTarget],
        act_by: Instant,
    ) -> Result<(), Stop<Errors>> {
        if targets.is_empty() {
            return Ok(());
        }
        self.outcome.step = Step::Register;
        self.log("registering", targets, described, NEW_CONNECTIONS);
        let (done, remembered) = (&mut self.done, &mut self.remembered);
        let acknowledge = |targets: &[Target]| {
            done.registered.extend(targets);
            remembered.acknowledge(targets);
        };
        self.target_group
            .register(targets, act_by, acknowledge)
            .await
    }

    async fn deregister(
        &mut self,
        stale: &[DescribedTarget],
        described: &[DescribedTarget],
        act_by: Instant,
    ) -> Result<(), Stop<Errors>> {
        for stale in stale.chunks(TARGETS_PER_CALL) {
            self.outcome.step = Step::Deregister;
            let targets = stale.iter().map(|stale| stale.target).collect();
            self.log("deregistering", &targets, described, OLD_CONNECTIONS);
            let deregistered = self.target_group.deregister(stale, act_by).await;
            deregistered.map_err(|stop| stop.map(Errors::from))?;
            self.remembered.acknowledge(&targets);
            self.outcome.deregistered.extend(targets);
        }
        let mut targets = stale.iter().map(|stale| stale.target);
        self.outcome.is_failover |= targets.any(|target| self.outcome.has_left(target));
        Ok(())
    }

    /// Logs the line before a change, with the targets that the group has. A reconcile that starts again may make the
    /// same change, which is logged once.
    fn log(
        &mut self,
        verb: &str,
        targets: &BTreeSet<Target>,
        described: &[DescribedTarget],
        meaning: &str,
    ) {
        let change = Some((self.outcome.step, targets.clone()));
        if self.logged == change {
            return;
        }
        self.logged = change;
        let current = described.iter().filter(|one| one.is_current());
        let current: BTreeMap<_, _> = current
            .map(|one| (one.target, one.state.as_str()))
            .collect();
        info!(
            "targetGroupArn" = %self.group.arn,
            "json.targets" = json(targets),
            "json.current" = json(&current),
            "{verb} {}: {meaning}",
            enumerate(targets)
        );
    }
}
