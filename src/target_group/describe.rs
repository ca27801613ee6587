//! Describe: what a target group is, and which targets it has.

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::{
    TargetGroup as DescribedTargetGroup, TargetGroupIpAddressTypeEnum, TargetHealthDescription,
    TargetHealthStateEnum, TargetTypeEnum,
};

use super::group::TargetGroup;
use crate::aws::{self, SdkError};
use crate::endpoint::AddressFamily;
use crate::error::Error;
use crate::plan::{DescribedTarget, State, Target};

/// What the target group is; none of it can be changed once it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// Registered for every address unless `TARGET_PORT` is set.
    pub port: u16,
    pub address_family: AddressFamily,
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
        let described = output
            .target_health_descriptions
            .unwrap_or_default()
            .into_iter();
        let described = described.map(|description| described_target(&description));
        described
            .collect::<Result<_, _>>()
            .map_err(|cause| Error::DescribeFailed {
                what: "the targets of",
                target_group_arn: self.arn.to_string(),
                cause: cause.into(),
            })
    }

    fn describe_failed<E>(&self, what: &'static str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error.code() {
            Some("TargetGroupNotFound") => {
                self.invalid(format!("it does not exist ({})", aws::cause(error)))
            }
            _ => Error::DescribeFailed {
                what,
                target_group_arn: self.arn.to_string(),
                cause: aws::cause(error),
            },
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
    match described.target_type() {
        Some(TargetTypeEnum::Ip) => (),
        Some(other) => {
            return Err(format!(
                "its target type is \"{other}\", \"ip\" is required"
            ));
        }
        None => return Err("it has no target type".to_owned()),
    }
    let address_family = match described.ip_address_type() {
        None | Some(TargetGroupIpAddressTypeEnum::Ipv4) => AddressFamily::Ipv4,
        Some(TargetGroupIpAddressTypeEnum::Ipv6) => AddressFamily::Ipv6,
        Some(other) => {
            return Err(format!(
                "its address family is {other}, neither ipv4 nor ipv6"
            ));
        }
    };
    let port = described.port().and_then(|port| u16::try_from(port).ok());
    Ok(Properties {
        port: port.ok_or("it has no port")?,
        address_family,
    })
}

/// The error is the cause: a target that is no address with a port, which a group of type `ip` does
/// not have, or one without state, which may be draining.
fn described_target(description: &TargetHealthDescription) -> Result<DescribedTarget, String> {
    let target = description.target();
    let id = target.and_then(|target| target.id()).unwrap_or_default();
    let port = target.and_then(|target| target.port());
    let state = description
        .target_health()
        .and_then(|health| health.state())
        .ok_or_else(|| format!("its target {id:?} has no state"))?;
    match (id.parse(), port.map(u16::try_from)) {
        (Ok(address), Some(Ok(port))) => Ok(DescribedTarget {
            target: Target::new(address, port),
            id: id.to_owned(),
            zone: target
                .and_then(|target| target.availability_zone())
                .map(str::to_owned),
            state: match state {
                TargetHealthStateEnum::Initial => State::Initial,
                TargetHealthStateEnum::Healthy => State::Healthy,
                TargetHealthStateEnum::Draining => State::Draining,
                other => State::Other(other.to_string()),
            },
        }),
        _ => Err(format!("its target {id:?} is no address with a port")),
    }
}
