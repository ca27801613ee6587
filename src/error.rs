//! Lists what can go wrong. Each error has a stable type for alarms, and a message that names the
//! endpoint or target group, the action and the cause once. Nothing is recovered from here: a failed
//! reconcile is reported, and the next one is the retry.

mod errors;

use std::fmt;

use tracing::error;

use crate::aws::Cause;
use crate::reconcile::Step;

pub use errors::{Errors, MOST_IN_A_LINE};

/// One failure. The variant's name is the `errorType` of Lambda's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable is missing or malformed. The text names it, its value and what was expected.
    #[error("{0}")]
    InvalidConfig(String),
    /// There is no usable answer: it is NXDOMAIN, empty, SERVFAIL, refused or late.
    #[error("cannot resolve {endpoint}: {cause}")]
    ResolveFailed { endpoint: String, cause: String },
    /// The answer is wrong or hostile, and is refused whole.
    #[error("refused the answer for {endpoints}: {reason}")]
    AnswerRefused { endpoints: String, reason: String },
    /// The target group does not exist, or its targets are not addresses.
    #[error("cannot use target group {target_group_arn}: {reason}")]
    TargetGroupInvalid {
        target_group_arn: String,
        reason: String,
        is_missing: bool,
    },
    /// A tag of a group of the fleet is missing or malformed. The text names it, its value and what was expected.
    #[error("cannot follow {target_group_arn}: {reason}")]
    TagInvalid {
        target_group_arn: String,
        reason: String,
    },
    /// There is no whole list of the fleet.
    #[error("cannot list the fleet {fleet:?}: {cause}")]
    DiscoverFailed { fleet: String, cause: Cause },
    /// Only some groups of the fleet are followed.
    #[error("cannot follow {all} target groups of the fleet: {reason}")]
    FleetTooLarge { all: usize, reason: String },
    /// ELB could not be asked, or its answer could not be read.
    #[error("cannot describe {what} {target_group_arn}: {cause}")]
    DescribeFailed {
        what: &'static str,
        target_group_arn: String,
        cause: Cause,
    },
    /// Nothing was deregistered.
    #[error("cannot register {targets} in {target_group_arn}: {cause}")]
    RegisterFailed {
        targets: String,
        target_group_arn: String,
        cause: Cause,
    },
    /// Old and new targets serve together until a later reconcile deregisters the old ones.
    #[error("cannot deregister {targets} from {target_group_arn}: {cause}")]
    DeregisterFailed {
        targets: String,
        target_group_arn: String,
        cause: Cause,
    },
    /// CloudWatch did not acknowledge the data. Only data that it called invalid are dropped.
    #[error("cannot publish {count} metric data to {namespace}: {cause}")]
    PublishFailed {
        count: usize,
        namespace: String,
        cause: Cause,
        is_dropped: bool,
    },
    /// CloudFormation did not get its answer. It fails the deployment when it has waited long enough.
    #[error("cannot answer CloudFormation: {0}")]
    AnswerFailed(String),
    /// The invocation's deadline cut a target group short.
    #[error("the invocation ran out of time while {step} {target_group_arn}")]
    DeadlineExceeded {
        step: Step,
        target_group_arn: String,
    },
}

impl Error {
    /// Lambda's `errorType`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Error::InvalidConfig(_) => "InvalidConfig",
            Error::ResolveFailed { .. } => "ResolveFailed",
            Error::AnswerRefused { .. } => "AnswerRefused",
            Error::TargetGroupInvalid { .. } => "TargetGroupInvalid",
            Error::TagInvalid { .. } => "TagInvalid",
            Error::DiscoverFailed { .. } | Error::FleetTooLarge { .. } => "DiscoverFailed",
            Error::DescribeFailed { .. } => "DescribeFailed",
            Error::RegisterFailed { .. } => "RegisterFailed",
            Error::DeregisterFailed { .. } => "DeregisterFailed",
            Error::PublishFailed { .. } => "PublishFailed",
            Error::AnswerFailed(_) => "AnswerFailed",
            Error::DeadlineExceeded { .. } => "DeadlineExceeded",
        }
    }

    /// What the failure means for the clients, and what comes next.
    fn consequence(&self) -> Option<&'static str> {
        Some(match self {
            Error::InvalidConfig(_) => return None,
            Error::ResolveFailed { .. }
            | Error::AnswerRefused { .. }
            | Error::DescribeFailed { .. } => {
                "clients keep the targets that they have; the next reconcile tries again"
            }
            Error::TargetGroupInvalid { .. } => {
                "clients keep the targets that they have until the group or the configuration is corrected"
            }
            Error::TagInvalid { .. } => {
                "clients keep the targets that they have until the tag is corrected"
            }
            Error::DiscoverFailed { .. } => {
                "the groups of the last whole list of this sandbox are followed; the next invocation lists again"
            }
            Error::FleetTooLarge { .. } => {
                "clients of the other groups keep the targets that they have; follow them by another deployment"
            }
            Error::RegisterFailed { .. } => {
                "nothing was deregistered, so clients stay on the targets that they have; \
                 the next reconcile tries again"
            }
            Error::DeregisterFailed { .. } => {
                "old and new targets serve together; the next reconcile tries again"
            }
            Error::PublishFailed { .. } if self.is_dropped() => {
                "clients are not affected, but the data are dropped: CloudWatch would refuse them again"
            }
            Error::PublishFailed { .. } => {
                "clients are not affected, and the data are kept for the next invocation of this sandbox"
            }
            Error::AnswerFailed(_) => "the deployment waits for an answer until it times out",
            Error::DeadlineExceeded { .. } => "the next invocation starts again",
        })
    }

    /// True if a target group does not exist.
    pub fn is_missing(&self) -> bool {
        match self {
            Error::TargetGroupInvalid { is_missing, .. } => *is_missing,
            Error::RegisterFailed { cause, .. } | Error::DeregisterFailed { cause, .. } => {
                cause.code.as_deref() == Some("TargetGroupNotFound")
            }
            _ => false,
        }
    }

    /// True if data are lost, so that no later publication can make up for it.
    pub fn is_dropped(&self) -> bool {
        matches!(
            self,
            Error::PublishFailed {
                is_dropped: true,
                ..
            }
        )
    }

    /// Logs one line for an error that concerns no target group.
    pub fn log(&self) {
        error!(
            "errorType" = self.error_type(),
            "{}",
            Errors::from(self.clone())
        );
    }
}

/// Lists all the things for a message, separated by commas.
pub fn enumerate(things: impl IntoIterator<Item: fmt::Display>) -> String {
    let things: Vec<_> = things.into_iter().map(|thing| thing.to_string()).collect();
    things.join(", ")
}
