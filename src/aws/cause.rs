//! Finds out why a call failed. The SDK's own error displays only "service error".

use std::error::Error;
use std::fmt;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};

use super::acknowledgement::Unreadable;

/// What to expect if a failed call is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The service refused the call, because too many calls are made.
    Throttled,
    /// It is not known whether the call took effect, or the service has a problem of its own.
    Passing,
    Final,
}

/// The cause of a failed call. It displays the service's own code and message, or why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The service's error code, for example `AccessDenied`.
    pub code: Option<String>,
    text: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Cause { code: None, text }
    }
}

/// Classifies a failure as the SDK's own retries do. A success response that is not an acknowledgement is
/// [`Failure::Passing`] too, and so is status 408: AWS's front end sends it without a code or a body, for a request
/// that did not arrive in time.
pub fn failure<E>(error: &SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let code = error.code().unwrap_or_default();
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match (error, status) {
        _ if THROTTLING_ERRORS.contains(&code) => Failure::Throttled,
        (_, Some(429)) => Failure::Throttled,
        _ if TRANSIENT_ERRORS.contains(&code) => Failure::Passing,
        (SdkError::ServiceError(_), Some(408 | 500 | 502 | 503 | 504)) => Failure::Passing,
        (SdkError::ServiceError(_), Some(400..)) => Failure::Final,
        (SdkError::ConstructionFailure(_), _) => Failure::Final,
        _ => Failure::Passing,
    }
}

/// Keeps only the first line of the service's message. If a signature does not match, the lines below contain
/// the request as it was signed, and the session token is in it.
pub fn cause<E>(error: &SdkError<E>) -> Cause
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let text = match (error.code(), error.message()) {
        (Some(code), Some(message)) => {
            format!("{code}: {}", message.lines().next().unwrap_or_default())
        }
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            let is_unreadable = matches!(error, SdkError::ServiceError(_))
                || causes(error).any(|cause| cause.is::<Unreadable>());
            match error.raw_response().filter(|_| is_unreadable) {
                Some(answer) => {
                    format!(
                        "HTTP {} with a body that is not an answer from AWS",
                        answer.status().as_u16()
                    )
                }
                None => chain(error),
            }
        }
    };
    let code = error.code().map(str::to_owned);
    Cause { code, text }
}

/// The error's text and the texts of its sources. A text that repeats the one before it is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
