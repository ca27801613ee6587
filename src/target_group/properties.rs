//! This module describes what target groups are, 20 of them in one call.

use std::cell::RefCell;
use std::convert::Infallible;
use std::mem::take;
use std::rc::Rc;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    ProtocolEnum, TargetGroup as DescribedTargetGroup, TargetGroupIpAddressTypeEnum, TargetTypeEnum,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::proto::rr::RecordType;
use tokio::select;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::arn::TargetGroupArn;
use super::call::{Calls, Line, Sent};
use crate::aws::Cause;
use crate::error::Error;
use crate::pace::{Pace, Read};

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html>
const GROUPS_PER_CALL: usize = 20;
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

/// The target groups that are not described yet. The same call answers all reconciles that ask at the same time.
#[derive(Default)]
pub struct Unknown {
    waiting: RefCell<Vec<Question>>,
    added: Notify,
}

struct Question {
    arn: TargetGroupArn,
    line: Rc<Line>,
    answer: oneshot::Sender<Result<Properties, Error>>,
}

impl Unknown {
    /// Describes what the target group is.
    ///
    /// # Errors
    /// [`Error::TargetGroupInvalid`] for a group that does not exist or whose target type is not `ip`.
    /// [`Error::DescribeFailed`] for every other failure of the call.
    pub async fn describe(
        &self,
        arn: &TargetGroupArn,
        line: &Rc<Line>,
    ) -> Result<Properties, Error> {
        let (answer, answered) = oneshot::channel();
        line.read.wait();
        self.waiting.borrow_mut().push(Question {
            arn: arn.clone(),
            line: Rc::clone(line),
            answer,
        });
        self.added.notify_one();
        let gone = |_| {
            let cause = "the invocation ran out of time before the answer came".to_owned();
            Err(undescribed(arn, cause.into()))
        };
        let answer = answered.await.unwrap_or_else(gone);
        line.read.end();
        answer
    }

    /// Calls `DescribeTargetGroups` for all reconciles that ask, and sends nothing after `until`.
    pub async fn answer(&self, client: &Client, pace: &Pace, until: Instant) -> Infallible {
        let mut batches = FuturesUnordered::new();
        loop {
            let mut questions = take(&mut *self.waiting.borrow_mut());
            while !questions.is_empty() {
                let rest = questions.split_off(GROUPS_PER_CALL.min(questions.len()));
                batches.push(ask(client, pace, questions, until));
                questions = rest;
            }
            select! {
                () = self.added.notified() => (),
                Some(halves) = batches.next() => {
                    let halves = halves.into_iter().flatten();
                    batches.extend(halves.map(|half| ask(client, pace, half, until)));
                }
            }
        }
    }
}

/// Answers the questions, or gives them back in halves until the bad ARN stands alone.
async fn ask(
    client: &Client,
    pace: &Pace,
    mut questions: Vec<Question>,
    until: Instant,
) -> Option<[Vec<Question>; 2]> {
    questions.retain(|question| !question.answer.is_closed());
    if questions.is_empty() {
        return None;
    }
    let arns = questions.iter().map(|question| question.arn.to_string());
    let call = client
        .describe_target_groups()
        .set_target_group_arns(Some(arns.collect()));
    let calls = Calls {
        pace,
        line: &Line::begin(),
    };
    let outcome = calls.read(
        None,
        Read::Unknown,
        until,
        |cause| {
            for question in &questions {
                let refused = undescribed(&question.arn, cause.clone());
                question.line.read.refuse(refused);
            }
        },
        async || {
            for question in &questions {
                question.line.read.send();
            }
            call.clone().send().await
        },
    );
    match outcome.await {
        Ok(Sent::TooLate) => (),
        Ok(Sent::Done(output)) => {
            let described = output.target_groups.unwrap_or_default();
            for Question { arn, answer, .. } in questions {
                let name = Some(arn.to_string());
                let found = described
                    .iter()
                    .find(|one| one.target_group_arn == name)
                    .ok_or_else(|| "it does not exist".to_owned());
                let properties = found.and_then(properties);
                // The deadline may have cut off the reconcile that asked.
                let _ = answer.send(properties.map_err(|reason| invalid(&arn, reason)));
            }
        }
        Err(cause) if questions.len() > 1 && is_of_one(&cause) => {
            let half = questions.split_off(questions.len() / 2);
            return Some([questions, half]);
        }
        Err(cause) => {
            for Question { arn, answer, .. } in questions {
                let failed = match cause.code.as_deref() {
                    Some("TargetGroupNotFound") => {
                        invalid(&arn, format!("it does not exist ({cause})"))
                    }
                    _ => undescribed(&arn, cause.clone()),
                };
                let _ = answer.send(Err(failed));
            }
        }
    }
    None
}

fn is_of_one(cause: &Cause) -> bool {
    let code = cause.code.as_deref();
    code.is_some_and(|code| OF_ONE.contains(&code))
}

fn undescribed(arn: &TargetGroupArn, cause: Cause) -> Error {
    Error::DescribeFailed {
        what: "target group",
        target_group_arn: arn.to_string(),
        cause,
    }
}

pub(super) fn invalid(arn: &TargetGroupArn, reason: String) -> Error {
    Error::TargetGroupInvalid {
        target_group_arn: arn.to_string(),
        reason,
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
