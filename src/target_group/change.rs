//! Registers and deregisters targets.

use std::collections::BTreeSet;
use std::slice;

use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use tokio::time::Instant;

use super::call::Stop;
use super::group::TargetGroup;
use crate::aws::Cause;
use crate::error::{Error, Errors, enumerate};
use crate::pace::Urgency;
use crate::plan::{DescribedTarget, Target};

/// This zone registers a target that is outside the target group's VPC.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
const ALL_ZONES: &str = "all";

impl TargetGroup<'_> {
    /// Calls `RegisterTargets`, and sends nothing after `act_by`. If ELB asks for a zone, each target is
    /// tried alone, and then with the zone `all` if that target needs it: inside the VPC a zone may not be
    /// overridden, and outside it is required. `acknowledge` gets what ELB acknowledged call by call, so that
    /// it is known even if the deadline cuts off the rest.
    ///
    /// # Errors
    /// [`Error::RegisterFailed`] for each call that failed. The others are tried too.
    pub async fn register(
        &mut self,
        targets: &BTreeSet<Target>,
        act_by: Instant,
        mut acknowledge: impl FnMut(&[Target]),
    ) -> Result<(), Stop<Errors>> {
        let targets: Vec<_> = targets.iter().copied().collect();
        let cause = match self.register_call(&targets, None, act_by).await {
            Ok(()) => {
                acknowledge(&targets);
                return Ok(());
            }
            Err(Stop::Failed(cause)) if is_zone_required(&cause) => cause,
            Err(stop) => return Err(self.register_stopped(&targets, stop).map(Errors::from)),
        };
        let mut failures = Vec::new();
        for target in targets.iter().map(slice::from_ref) {
            let alone = match targets.len() {
                1 => Err(Stop::Failed(cause.clone())),
                _ => self.register_call(target, None, act_by).await,
            };
            let registered = match alone {
                Err(Stop::Failed(cause)) if is_zone_required(&cause) => {
                    self.register_call(target, Some(ALL_ZONES), act_by).await
                }
                alone => alone,
            };
            match registered.map_err(|stop| self.register_stopped(target, stop)) {
                Ok(()) => acknowledge(target),
                Err(Stop::Failed(error)) => failures.push(error),
                Err(stop) => {
                    let failed = Errors::check(failures).map_err(Stop::Failed);
                    return failed.and(Err(stop.map(Errors::from)));
                }
            }
        }
        Errors::check(failures).map_err(Stop::Failed)
    }

    async fn register_call(
        &mut self,
        targets: &[Target],
        zone: Option<&str>,
        act_by: Instant,
    ) -> Result<(), Stop<Cause>> {
        let mut call = self.client.register_targets();
        for target in targets {
            let description = TargetDescription::builder()
                .id(target.ip().to_string())
                .port(target.port().into())
                .set_availability_zone(zone.map(str::to_owned));
            call = call.targets(description.build());
        }
        let call = call.target_group_arn(self.arn.to_string());
        let (door, limits) = (&self.pace.registrations, self.limits(act_by));
        let send = async || call.clone().send().await.map(drop);
        self.changes.send(door, Urgency::Urgent, limits, send).await
    }

    fn register_stopped(&mut self, targets: &[Target], stop: Stop<Cause>) -> Stop<Error> {
        self.stopped(stop, |target_group_arn, cause| Error::RegisterFailed {
            targets: enumerate(targets),
            target_group_arn,
            cause,
        })
    }

    /// Calls `DeregisterTargets` before `act_by`, with each target as it was described. Without the
    /// registered port the call succeeds and does nothing
    /// (<https://github.com/chaostoolkit/chaostoolkit-aws/issues/60>).
    ///
    /// # Errors
    /// [`Error::DeregisterFailed`] if ELB did not acknowledge the call.
    pub async fn deregister(
        &mut self,
        described: &[DescribedTarget],
        act_by: Instant,
    ) -> Result<(), Stop<Error>> {
        let descriptions = described.iter().map(|one| one.description.clone());
        let call = self.client.deregister_targets();
        let call = call.set_targets(Some(descriptions.collect()));
        let call = call.target_group_arn(self.arn.to_string());
        let (door, limits) = (&self.pace.registrations, self.limits(act_by));
        let send = async || call.clone().send().await.map(drop);
        let sent = self
            .changes
            .send(door, Urgency::Ordinary, limits, send)
            .await;
        sent.map_err(|stop| {
            self.stopped(stop, |target_group_arn, cause| Error::DeregisterFailed {
                targets: enumerate(described.iter().map(|described| described.target)),
                target_group_arn,
                cause,
            })
        })
    }

    /// Names the change that failed. Keeps the error of one that was refused and is to be sent again.
    fn stopped(
        &mut self,
        stop: Stop<Cause>,
        failed: impl Fn(String, Cause) -> Error,
    ) -> Stop<Error> {
        let arn = self.arn.to_string();
        self.refused = self
            .changes
            .last
            .clone()
            .map(|cause| failed(arn.clone(), cause));
        stop.map(|cause| failed(arn, cause))
    }
}

/// ELB says this in several ways. It also mentions the Availability Zone if none may be given:
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/561>
fn is_zone_required(cause: &Cause) -> bool {
    let text = cause.to_string();
    cause.code.as_deref() == Some("ValidationError")
        && text.contains("Availability Zone")
        && !text.contains("cannot have its")
}
