//! Describes what target groups are, several of them in one call.

use std::collections::HashMap;
use std::fmt;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    ProtocolEnum, TargetGroup as DescribedTargetGroup, TargetGroupIpAddressTypeEnum, TargetTypeEnum,
};
use hickory_resolver::proto::rr::RecordType;
use tokio::time::timeout_at;

use super::arn::TargetGroupArn;
use super::call::{Attempts, Limits, Stop};
use crate::aws::Cause;
use crate::error::Error;
use crate::pace::{Pace, Urgency};
use crate::reconcile::Step;
use crate::window::Deadline;

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html>
pub const GROUPS_PER_CALL: usize = 20;
/// One bad ARN fails the whole call with one of these codes.
const OF_ONE: [&str; 2] = ["TargetGroupNotFound", "ValidationError"];

/// A target of a QUIC group needs a server id, and a target of a Gateway Load Balancer is an appliance. Registering
/// an address alone would break such a group.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
pub const UNFIT_PROTOCOLS: [ProtocolEnum; 3] = [
    ProtocolEnum::Geneve,
    ProtocolEnum::Quic,
    ProtocolEnum::TcpQuic,
];

/// What the target group is. None of it can be changed once the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// The port that is registered for every address, unless `TARGET_PORT` is set.
    pub port: u16,
    /// An IPv4 group takes A records, an IPv6 group AAAA.
    pub record_type: RecordType,
}

/// What target groups are, or why they cannot be followed. A group that was not asked about before the deadline is missing.
pub type Described = HashMap<TargetGroupArn, Result<Properties, Error>>;

/// Describes what the target groups are, as many of them as one call takes. A call that fails for one of them is
/// sent again for each half of them, until the bad ARN stands alone.
///
/// # Errors
/// For each group, [`Error::TargetGroupInvalid`] if it does not exist or its target type is not `ip`, and
/// [`Error::DescribeFailed`] for every other failure of the call.
pub async fn describe_target_groups(
    client: &Client,
    pace: &Pace,
    deadline: Deadline,
    arns: &[&TargetGroupArn],
) -> Described {
    let limits = Limits {
        act_by: deadline.last_call,
        last_call: deadline.last_call,
    };
    let (mut described, mut batches) = (Described::new(), vec![arns]);
    while let Some(batch) = batches.pop() {
        let names = batch.iter().map(ToString::to_string).collect();
        let call = client.describe_target_groups();
        let call = call.set_target_group_arns(Some(names));
        let send = async || call.clone().send().await;
        let mut attempts = Attempts::default();
        let sent = attempts.send(&pace.reads, Urgency::Ordinary, limits, send);
        let Ok(sent) = timeout_at(deadline.work, sent).await else {
            let cut_off = |arn: &TargetGroupArn| Error::DeadlineExceeded {
                step: Step::DescribeGroup,
                target_group_arn: arn.to_string(),
            };
            described.extend(batch.iter().map(|arn| ((*arn).clone(), Err(cut_off(arn)))));
            continue;
        };
        match sent {
            Ok(output) => {
                let groups = output.target_groups.unwrap_or_default();
                described.extend(
                    batch
                        .iter()
                        .map(|arn| ((*arn).clone(), found(arn, &groups))),
                );
            }
            Err(Stop::Failed(cause)) if batch.len() > 1 && is_of_one(&cause) => {
                batches.extend(<[_; 2]>::from(batch.split_at(batch.len() / 2)));
            }
            Err(Stop::Failed(cause)) => {
                let failed = |arn| match cause.code.as_deref() {
                    Some("TargetGroupNotFound") => missing(arn, &cause),
                    _ => undescribed(arn, "target group", cause.clone()),
                };
                described.extend(batch.iter().map(|arn| ((*arn).clone(), Err(failed(arn)))));
            }
            Err(Stop::Unsent | Stop::Expired) => (),
        }
    }
    described
}

fn found(arn: &TargetGroupArn, groups: &[DescribedTargetGroup]) -> Result<Properties, Error> {
    let name = Some(arn.to_string());
    let mut groups = groups.iter();
    let group = groups.find(|group| group.target_group_arn == name);
    let group = group.ok_or_else(|| missing(arn, &"it is not in the answer"))?;
    properties(group).map_err(|reason| Error::TargetGroupInvalid {
        target_group_arn: arn.to_string(),
        reason,
        is_missing: false,
    })
}

fn is_of_one(cause: &Cause) -> bool {
    let code = cause.code.as_deref();
    code.is_some_and(|code| OF_ONE.contains(&code))
}

pub(super) fn undescribed(arn: &TargetGroupArn, what: &'static str, cause: Cause) -> Error {
    Error::DescribeFailed {
        what,
        target_group_arn: arn.to_string(),
        cause,
    }
}

pub(super) fn missing(arn: &TargetGroupArn, cause: &impl fmt::Display) -> Error {
    Error::TargetGroupInvalid {
        target_group_arn: arn.to_string(),
        reason: format!("it does not exist ({cause})"),
        is_missing: true,
    }
}

/// The error says why the group cannot be used.
fn properties(described: &DescribedTargetGroup) -> Result<Properties, String> {
    let target_type = described.target_type().map_or("", TargetTypeEnum::as_str);
    if target_type != "ip" {
        return Err(format!(
            "its target type is {target_type:?}, \"ip\" is required"
        ));
    }
    if let Some(protocol) = described.protocol()
        && UNFIT_PROTOCOLS.contains(protocol)
    {
        return Err(format!(
            "its protocol is {protocol}, which needs more of a target than an address"
        ));
    }
    let record_type = match described.ip_address_type() {
        None | Some(TargetGroupIpAddressTypeEnum::Ipv4) => RecordType::A,
        Some(TargetGroupIpAddressTypeEnum::Ipv6) => RecordType::AAAA,
        Some(other) => {
            return Err(format!(
                "its address family is {:?}, \"ipv4\" or \"ipv6\" is required",
                other.as_str()
            ));
        }
    };
    let port = described.port().and_then(|port| u16::try_from(port).ok());
    Ok(Properties {
        port: port.ok_or("it has no port")?,
        record_type,
    })
}
