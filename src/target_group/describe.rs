//! Describe: what a target group is, and which targets it has.

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetGroup as DescribedTargetGroup, TargetGroupIpAddressTypeEnum,
    TargetHealthDescription, TargetTypeEnum,
};
use hickory_resolver::proto::rr::RecordType;

use super::group::TargetGroup;
use crate::aws::{self, Cause, SdkError};
use crate::error::Error;
use crate::plan::{DescribedTarget, Target};

/// What the target group is; none of it can be changed once it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// Registered for every address unless `TARGET_PORT` is set.
    pub port: u16,
    /// An IPv4 group takes A records, an IPv6 group AAAA.
    pub record_type: RecordType,
}

impl TargetGroup<'_> {
    /// `DescribeTargetGroups`.
    ///
    /// # Errors
    /// [`Error::TargetGroupInvalid`] for a group that does not exist or whose target type is not
    /// `ip`, [`Error::DescribeFailed`] for every other failure of the call.
    pub async fn describe(&self) -> Result<Properties, Error> {
        let call = self
            .client
            .describe_target_groups()
            .target_group_arns(self.arn.to_string());
        let output = call
            .send()
            .await
            .map_err(|error| self.describe_failed("target group", &error))?;
        let described = output.target_groups.unwrap_or_default().into_iter().next();
        let properties = described
            .ok_or_else(|| "it does not exist".to_owned())
            .and_then(|described| properties(&described));
        properties.map_err(|reason| self.invalid(reason))
    }

    /// `DescribeTargetHealth`, which is not paginated and lists draining targets too.
    ///
    /// # Errors
    /// As [`TargetGroup::describe`], and [`Error::DescribeFailed`] for a target that is no address
    /// with a port, or has no state.
    pub async fn describe_targets(&self) -> Result<Vec<DescribedTarget>, Error> {
        let call = self
            .client
            .describe_target_health()
            .target_group_arn(self.arn.to_string());
        let output = call
            .send()
            .await
            .map_err(|error| self.describe_failed("the targets of", &error))?;
        let described = output.target_health_descriptions.unwrap_or_default();
        let described = described.into_iter().map(described_target);
        described
            .collect::<Result<_, String>>()
            .map_err(|cause| self.undescribed("the targets of", cause.into()))
    }

    fn describe_failed<E>(&self, what: &'static str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error.code() {
            Some("TargetGroupNotFound") => {
                self.invalid(format!("it does not exist ({})", aws::cause(error)))
            }
            _ => self.undescribed(what, aws::cause(error)),
        }
    }

    fn undescribed(&self, what: &'static str, cause: Cause) -> Error {
        Error::DescribeFailed {
            what,
            target_group_arn: self.arn.to_string(),
            cause,
        }
    }

    fn invalid(&self, reason: String) -> Error {
        Error::TargetGroupInvalid {
            target_group_arn: self.arn.to_string(),
            reason,
        }
    }
}

/// The error is the reason why the group cannot be followed into.
fn properties(described: &DescribedTargetGroup) -> Result<Properties, String> {
    let target_type = described.target_type().map_or("", TargetTypeEnum::as_str);
    if target_type != "ip" {
        return Err(format!(
            "its target type is {target_type:?}, \"ip\" is required"
        ));
    }
    let record_type = match described.ip_address_type() {
        None | Some(TargetGroupIpAddressTypeEnum::Ipv4) => RecordType::A,
        Some(TargetGroupIpAddressTypeEnum::Ipv6) => RecordType::AAAA,
        Some(other) => {
            return Err(format!(
                "its address family is {other}, neither ipv4 nor ipv6"
            ));
        }
    };
    let port = described.port().and_then(|port| u16::try_from(port).ok());
    Ok(Properties {
        port: port.ok_or("it has no port")?,
        record_type,
    })
}

/// The error is the cause: a target that is no address with a port, which a group of type `ip` does
/// not have, or one without state, which may be draining.
fn described_target(description: TargetHealthDescription) -> Result<DescribedTarget, String> {
    let state = description.target_health.and_then(|health| health.state);
    let description = description
        .target
        .unwrap_or_else(|| TargetDescription::builder().build());
    let id = description.id().unwrap_or_default().to_owned();
    let port = description.port().map(u16::try_from);
    let (Ok(address), Some(Ok(port))) = (id.parse(), port) else {
        return Err(format!("its target {id:?} is no address with a port"));
    };
    Ok(DescribedTarget {
        target: Target::new(address, port),
        state: state.ok_or_else(|| format!("its target {id:?} has no state"))?,
        description,
    })
}
