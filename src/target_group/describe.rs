//! Describes which targets a target group has.

use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealthDescription};
use tokio::time::Instant;

use super::call::Stop;
use super::group::TargetGroup;
use super::properties::{missing, undescribed};
use crate::aws::Cause;
use crate::error::Error;
use crate::pace::Urgency;
use crate::plan::{DescribedTarget, Target};

impl TargetGroup<'_> {
    /// Calls `DescribeTargetHealth`, which is not paginated and lists draining targets too. Nothing is sent after
    /// `act_by`.
    ///
    /// # Errors
    /// [`Error::TargetGroupInvalid`] for a group that does not exist. [`Error::DescribeFailed`] for every
    /// other failure of the call, and for a target that is not an address with a port or has no state.
    pub async fn describe_targets(
        &mut self,
        is_urgent: bool,
        act_by: Instant,
    ) -> Result<Vec<DescribedTarget>, Stop<Error>> {
        let call = self
            .client
            .describe_target_health()
            .target_group_arn(self.arn.to_string());
        let failed = |cause: Cause| match cause.code.as_deref() {
            Some("TargetGroupNotFound") => missing(self.arn, &cause),
            _ => undescribed(self.arn, "the targets of", cause),
        };
        let (door, limits) = (&self.pace.reads, self.limits(act_by));
        let send = async || call.clone().send().await;
        let urgency = match is_urgent {
            _ if self.changes.has_turn() => Urgency::Foremost,
            true => Urgency::Urgent,
            false => Urgency::Ordinary,
        };
        let sent = self.reads.send(door, urgency, limits, send).await;
        let output = sent.map_err(|stop| stop.map(failed))?;
        let described = output.target_health_descriptions.unwrap_or_default();
        let described = described.into_iter().map(described_target);
        let described = described.collect::<Result<_, String>>();
        described.map_err(|cause| Stop::Failed(failed(cause.into())))
    }
}

/// The error is the cause: the target is not an address with a port, which a group of type `ip` does not
/// have, or it has no state, so that it may be draining.
fn described_target(description: TargetHealthDescription) -> Result<DescribedTarget, String> {
    let state = description.target_health.and_then(|health| health.state);
    let description = description
        .target
        .unwrap_or_else(|| TargetDescription::builder().build());
    let id = description.id().unwrap_or_default().to_owned();
    let port = description.port().map(u16::try_from);
    let (Ok(address), Some(Ok(port))) = (id.parse(), port) else {
        return Err(format!("its target {id:?} is not an address with a port"));
    };
    Ok(DescribedTarget {
        target: Target::new(address, port),
        state: state.ok_or_else(|| format!("its target {id:?} has no state"))?,
        description,
    })
}
