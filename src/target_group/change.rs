//! Register and deregister.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::operation::deregister_targets::DeregisterTargetsError;
use aws_sdk_elasticloadbalancingv2::operation::register_targets::RegisterTargetsError;
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use tracing::info;

use super::TargetGroup;
use crate::aws::{self, SdkError};
use crate::error::{Error, enumerate};
use crate::log::json;
use crate::plan::{DescribedTarget, Target};

/// Targets in one call, as the AWS Load Balancer Controller does it: the API documents no limit of
/// its own.
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/blob/main/pkg/targetgroupbinding/targets_manager.go>
const TARGETS_PER_CALL: usize = 200;
/// Registers a target that is outside the target group's VPC.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
const ALL_ZONES: &str = "all";

impl TargetGroup<'_> {
    /// `RegisterTargets`. Where ELB asks for a zone, each target of the call is tried alone, and
    /// with the zone `all` if it is that target which needs it: inside the VPC a zone may not be
    /// overridden, outside it is required.
    pub async fn register(
        &self,
        targets: &BTreeSet<Target>,
        mut acknowledge: impl FnMut(&[Target]),
    ) -> Vec<Error> {
        let mut failures = Vec::new();
        let targets: Vec<_> = targets.iter().copied().collect();
        for targets in targets.chunks(TARGETS_PER_CALL) {
            match self.register_call(targets, None).await {
                Ok(()) => acknowledge(targets),
                Err(error) if is_zone_required(&error) => {
                    failures.extend(self.register_alone(targets, &mut acknowledge).await);
                }
                Err(error) => failures.push(self.register_failed(targets, &error)),
            }
        }
        failures
    }

    /// A call for each of the targets of one that was refused because a zone is required.
    async fn register_alone(
        &self,
        targets: &[Target],
        mut acknowledge: impl FnMut(&[Target]),
    ) -> Vec<Error> {
        let mut failures = Vec::new();
        for target in targets {
            match self.register_one(*target, targets.len() == 1).await {
                Ok(()) => acknowledge(&[*target]),
                Err(error) => failures.push(self.register_failed(&[*target], &error)),
            }
        }
        failures
    }

    async fn register_one(
        &self,
        target: Target,
        is_refused: bool,
    ) -> Result<(), SdkError<RegisterTargetsError>> {
        if !is_refused {
            match self.register_call(&[target], None).await {
                Err(error) if is_zone_required(&error) => (),
                outcome => return outcome,
            }
        }
        self.register_call(&[target], Some(ALL_ZONES)).await
    }

    async fn register_call(
        &self,
        targets: &[Target],
        zone: Option<&str>,
    ) -> Result<(), SdkError<RegisterTargetsError>> {
        info!(
            "targetGroupArn" = %self.arn,
            "json.targets" = json(&targets),
            "availabilityZone" = zone,
            "registering"
        );
        let descriptions = targets.iter().map(|target| {
            let description = TargetDescription::builder().id(target.ip().to_string());
            description
                .port(target.port().into())
                .set_availability_zone(zone.map(str::to_owned))
                .build()
        });
        let call = self
            .client
            .register_targets()
            .target_group_arn(self.arn.to_string());
        call.set_targets(Some(descriptions.collect()))
            .send()
            .await
            .map(drop)
    }

    /// `DeregisterTargets`, with id, port and zone as they were described: without the registered
    /// port the call succeeds and does nothing
    /// (<https://github.com/chaostoolkit/chaostoolkit-aws/issues/60>).
    pub async fn deregister(
        &self,
        described: &[DescribedTarget],
        mut acknowledge: impl FnMut(&[Target]),
    ) -> Vec<Error> {
        let mut failures = Vec::new();
        for described in described.chunks(TARGETS_PER_CALL) {
            let targets: Vec<_> = described.iter().map(|described| described.target).collect();
            info!("targetGroupArn" = %self.arn, "json.targets" = json(&targets), "deregistering");
            match self.deregister_call(described).await {
                Ok(()) => acknowledge(&targets),
                Err(error) => failures.push(self.deregister_failed(&targets, &error)),
            }
        }
        failures
    }

    async fn deregister_call(
        &self,
        targets: &[DescribedTarget],
    ) -> Result<(), SdkError<DeregisterTargetsError>> {
        let descriptions = targets.iter().map(|described| {
            let description = TargetDescription::builder().id(&described.id);
            description
                .port(described.target.port().into())
                .set_availability_zone(described.zone.clone())
                .build()
        });
        let call = self
            .client
            .deregister_targets()
            .target_group_arn(self.arn.to_string());
        call.set_targets(Some(descriptions.collect()))
            .send()
            .await
            .map(drop)
    }

    fn register_failed(&self, targets: &[Target], error: &SdkError<RegisterTargetsError>) -> Error {
        Error::RegisterFailed {
            targets: enumerate(targets),
            target_group_arn: self.arn.to_string(),
            cause: aws::cause(error),
        }
    }

    /// Why nothing more is deregistered by an answer.
    pub fn answer_too_old(&self, described: &[DescribedTarget]) -> Error {
        Error::DeregisterFailed {
            targets: enumerate(described.iter().map(|described| described.target)),
            target_group_arn: self.arn.to_string(),
            cause: "not acknowledged before what DNS said was too old"
                .to_owned()
                .into(),
        }
    }

    fn deregister_failed(
        &self,
        targets: &[Target],
        error: &SdkError<DeregisterTargetsError>,
    ) -> Error {
        Error::DeregisterFailed {
            targets: enumerate(targets),
            target_group_arn: self.arn.to_string(),
            cause: aws::cause(error),
        }
    }
}

/// ELB says it in several ways, and mentions the Availability Zone also where none may be given:
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/561>
fn is_zone_required(error: &SdkError<RegisterTargetsError>) -> bool {
    let message = error.message().unwrap_or_default();
    error.code() == Some("ValidationError")
        && message.contains("Availability Zone")
        && !message.contains("cannot have its")
}
