//! These calls register and deregister targets.

use std::collections::BTreeSet;
use std::slice;

use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use tokio::time::Instant;

use super::call::Sent;
use super::group::TargetGroup;
use crate::aws::Cause;
use crate::error::{Error, Errors, enumerate};
use crate::pace::Registration;
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
        &self,
        targets: &BTreeSet<Target>,
        act_by: Instant,
        mut acknowledge: impl FnMut(&[Target]),
    ) -> Result<Sent<()>, Errors> {
        let targets: Vec<_> = targets.iter().copied().collect();
        let (mut sent, mut failures) = (Sent::Done(()), Vec::new());
        let mut end = |targets: &[Target], outcome| match outcome {
            Ok(Sent::Done(())) => acknowledge(targets),
            Ok(Sent::TooLate) => sent = Sent::TooLate,
            Err(cause) => failures.push(self.register_failed(targets, cause)),
        };
        match self.register_call(&targets, None, act_by).await {
            Err(cause) if is_zone_required(&cause) => {
                for target in targets.iter().map(slice::from_ref) {
                    let alone = match targets.len() {
                        1 => Err(cause.clone()),
                        _ => self.register_call(target, None, act_by).await,
                    };
                    end(
                        target,
                        match alone {
                            Err(cause) if is_zone_required(&cause) => {
                                self.register_call(target, Some(ALL_ZONES), act_by).await
                            }
                            outcome => outcome,
                        },
                    );
                }
            }
            outcome => end(&targets, outcome),
        }
        Errors::check(failures)?;
        Ok(sent)
    }

    async fn register_call(
        &self,
        targets: &[Target],
        zone: Option<&str>,
        act_by: Instant,
    ) -> Result<Sent<()>, Cause> {
        let mut call = self.client.register_targets();
        for target in targets {
            let description = TargetDescription::builder()
                .id(target.ip().to_string())
                .port(target.port().into())
                .set_availability_zone(zone.map(str::to_owned));
            call = call.targets(description.build());
        }
        let call = call.target_group_arn(self.arn.to_string());
        let calls = &self.calls;
        let refused = |cause| {
            calls
                .line
                .change
                .refuse(self.register_failed(targets, cause))
        };
        let send = async || call.clone().send().await.map(drop);
        calls
            .change(Registration::Register, act_by, refused, send)
            .await
    }

    fn register_failed(&self, targets: &[Target], cause: Cause) -> Error {
        Error::RegisterFailed {
            targets: enumerate(targets),
            target_group_arn: self.arn.to_string(),
            cause,
        }
    }

    /// Calls `DeregisterTargets` before `act_by`, with each target as it was described. Without the
    /// registered port the call succeeds and does nothing
    /// (<https://github.com/chaostoolkit/chaostoolkit-aws/issues/60>).
    ///
    /// # Errors
    /// [`Error::DeregisterFailed`] if ELB did not acknowledge the call.
    pub async fn deregister(
        &self,
        described: &[DescribedTarget],
        act_by: Instant,
    ) -> Result<Sent<()>, Error> {
        let descriptions = described.iter().map(|one| one.description.clone());
        let call = self.client.deregister_targets();
        let call = call.set_targets(Some(descriptions.collect()));
        let call = call.target_group_arn(self.arn.to_string());
        let failed = |cause| Error::DeregisterFailed {
            targets: enumerate(described.iter().map(|described| described.target)),
            target_group_arn: self.arn.to_string(),
            cause,
        };
        let calls = &self.calls;
        let refused = |cause| calls.line.change.refuse(failed(cause));
        let send = async || call.clone().send().await.map(drop);
        let sent = calls
            .change(Registration::Deregister, act_by, refused, send)
            .await;
        sent.map_err(failed)
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
