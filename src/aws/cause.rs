//! Why a call failed. The SDK itself displays just "service error".

use std::error::Error;
use std::fmt;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};

use super::acknowledgement::Unreadable;

/// Whether a call that failed may succeed when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Refused because too many calls are made.
    Throttled,
    /// Nobody knows whether it took effect, or the service has a difficulty of its own.
    Passing,
    Final,
}

/// It displays the service's own code and message, or what kept the answer away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The service's, such as `AccessDenied`.
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

/// As the SDK's own retries see it, and what is no answer of the service's besides.
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
        (SdkError::ServiceError(_), Some(500 | 502 | 503 | 504)) => Failure::Passing,
        (SdkError::ServiceError(_), Some(400..)) => Failure::Final,
        (SdkError::ConstructionFailure(_), _) => Failure::Final,
        _ => Failure::Passing,
    }
}

/// Of the service's message it keeps the first line: a signature that does not match is explained below
/// it with the request as it was signed, and that has the session token in it.
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
                    format!("HTTP {} and an unreadable answer", answer.status().as_u16())
                }
                None => chain(error),
            }
        }
    };
    let code = error.code().map(str::to_owned);
    Cause { code, text }
}

/// What went wrong and what caused it, each once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
