//! Lists what can go wrong. Each error has a stable type for alarms, and a message that names the
//! endpoint or target group, the action and the cause once. Nothing is recovered from here: a failed
//! reconcile is reported, and the next one is the retry.

use std::collections::HashSet;
use std::fmt;
use std::{slice, vec};

use lambda_runtime::Diagnostic;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tracing::error;

use crate::aws::Cause;
use crate::reconcile::Step;

/// How many target groups one line of the log lists, and how many failures one message names. The others are counted.
pub const MOST_IN_A_LINE: usize = 100;

/// One failure. The variant's name is the `errorType` of Lambda's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable is missing or malformed. The text names it, its value and what was expected.
    #[error("{0}")]
    InvalidConfig(String),
    /// There is no usable answer: it is NXDOMAIN, empty, SERVFAIL, refused or late.
    #[error(
        "cannot resolve {endpoint}: {cause} (clients keep the targets that they have; the next reconcile tries again)"
    )]
    ResolveFailed { endpoint: String, cause: String },
    /// The answer is wrong or hostile, and is refused whole.
    #[error(
        "refused the answer for {endpoints}: {reason} (clients keep the targets that they have; the next reconcile tries again)"
    )]
    AnswerRefused { endpoints: String, reason: String },
    /// The target group does not exist, or its targets are not addresses.
    #[error(
        "cannot use target group {target_group_arn}: {reason} (its targets stay as they are until the group or the configuration is corrected)"
    )]
    TargetGroupInvalid {
        target_group_arn: String,
        reason: String,
    },
    /// ELB could not be asked, or its answer could not be read.
    #[error(
        "cannot describe {what} {target_group_arn}: {cause} (clients keep the targets that they have; the next reconcile tries again)"
    )]
    DescribeFailed {
        what: &'static str,
        target_group_arn: String,
        cause: Cause,
    },
    /// Nothing was deregistered.
    #[error(
        "cannot register {targets} in {target_group_arn}: {cause} (nothing was deregistered, so clients stay on the targets that they have; the next reconcile tries again)"
    )]
    RegisterFailed {
        targets: String,
        target_group_arn: String,
        cause: Cause,
    },
    /// Old and new targets serve together until a later reconcile deregisters the old ones.
    #[error(
        "cannot deregister {targets} from {target_group_arn}: {cause} (old and new targets serve together; the next reconcile tries again)"
    )]
    DeregisterFailed {
        targets: String,
        target_group_arn: String,
        cause: Cause,
    },
    /// CloudWatch did not acknowledge the data. Only data that it called invalid are dropped.
    #[error(
        "cannot publish {count} metric data to {namespace}: {cause} (clients are not affected, {})",
        match is_dropped {
            true => "but the data are dropped: CloudWatch would refuse them again",
            false => "and the data are kept for the next invocation of this sandbox",
        }
    )]
    PublishFailed {
        count: usize,
        namespace: String,
        cause: Cause,
        is_dropped: bool,
    },
    /// CloudFormation did not get its answer. It fails the deployment when it has waited long enough.
    #[error(
        "cannot answer CloudFormation: {0} (the deployment waits for an answer until it times out)"
    )]
    AnswerFailed(String),
    /// The invocation's deadline cut a target group short.
    #[error(
        "the invocation ran out of time while {step} {target_group_arn} (the next invocation starts again)"
    )]
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
            Error::DescribeFailed { .. } => "DescribeFailed",
            Error::RegisterFailed { .. } => "RegisterFailed",
            Error::DeregisterFailed { .. } => "DeregisterFailed",
            Error::PublishFailed { .. } => "PublishFailed",
            Error::AnswerFailed(_) => "AnswerFailed",
            Error::DeadlineExceeded { .. } => "DeadlineExceeded",
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
        error!("errorType" = self.error_type(), "{self}");
    }
}

/// The failures of a target group or of a whole invocation. There is at least one. The first one gives the type, and
/// all of them give the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Returns `Ok` if nothing failed.
    pub fn check(errors: impl IntoIterator<Item = Error>) -> Result<(), Errors> {
        let errors: Vec<_> = errors.into_iter().collect();
        let is_well = errors.is_empty().then_some(());
        is_well.ok_or(Errors(errors))
    }

    /// Adds one more failure at the end.
    pub fn and(mut self, another: Error) -> Self {
        self.0.push(another);
        self
    }

    pub fn iter(&self) -> slice::Iter<'_, Error> {
        self.0.iter()
    }

    /// Lambda's `errorType`, which is the first failure's.
    pub fn error_type(&self) -> &'static str {
        self.0[0].error_type()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Errors(vec![error])
    }
}

impl IntoIterator for Errors {
    type Item = Error;
    type IntoIter = vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An endpoint that feeds several groups fails each of them with the same words.
        let mut seen = HashSet::new();
        let mut texts: Vec<_> = self.iter().map(Error::to_string).collect();
        texts.retain(|text| seen.insert(text.clone()));
        let others = texts.len().saturating_sub(MOST_IN_A_LINE);
        texts.truncate(MOST_IN_A_LINE);
        if others > 0 {
            texts.push(format!("and {others} more"));
        }
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Errors {}

/// Lambda's error object.
impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Errors", 2)?;
        object.serialize_field("errorType", self.error_type())?;
        object.serialize_field("errorMessage", &self.to_string())?;
        object.end()
    }
}

impl From<Errors> for Diagnostic {
    fn from(errors: Errors) -> Self {
        Diagnostic {
            error_type: errors.error_type().to_owned(),
            error_message: errors.to_string(),
        }
    }
}

/// Lists all the things for a message, separated by commas.
pub fn enumerate(things: impl IntoIterator<Item: fmt::Display>) -> String {
    let things: Vec<_> = things.into_iter().map(|thing| thing.to_string()).collect();
    things.join(", ")
}
