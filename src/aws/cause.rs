//! Why a call failed. The SDK itself displays just "service error".

use std::error::Error;
use std::fmt;

use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};

use super::acknowledgement::Unreadable;

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
