//! Answers the custom resource of the template. During a deployment CloudFormation asks whether
//! the function does its work. It waits for the answer, which is put to a URL that comes with the question.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html>

use std::time::Duration;

use aws_config::SdkConfig;
use http::Uri;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use crate::aws;
use crate::error::{Error, Errors};
use crate::event::Request;
use crate::window::Deadline;

/// This is less than the template's `ServiceTimeout` of 60 s and leaves time for a cold start.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// This part of `ANSWER_WITHIN` is kept for the answer itself.
const ANSWER_RESERVE: Duration = Duration::from_secs(5);
/// CloudFormation accepts 4096 bytes in all. The errors of many target groups can be longer.
const MAX_REASON: usize = 2048;
/// The limit for putting the answer, including all retries. It is less than the reserve.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);

fn reason(errors: &Errors) -> String {
    let mut reason = format!("{}: {errors}", errors.error_type());
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push_str(" …");
    }
    reason
}

/// The deadline of the work. It leaves time to answer CloudFormation, and it is before Lambda's `timeout`.
pub fn deadline(timeout: Instant) -> Deadline {
    let answer_by = timeout.min(Instant::now() + ANSWER_WITHIN);
    Deadline::before(answer_by - ANSWER_RESERVE)
}

/// True if all of these errors may disappear by themselves soon after a deployment. IAM is eventually
/// consistent, and a name that was just made is not known everywhere.
pub fn are_perhaps_early(errors: &Errors) -> bool {
    errors.iter().all(|error| match error {
        Error::ResolveFailed { .. } => true,
        Error::DescribeFailed { cause, .. }
        | Error::RegisterFailed { cause, .. }
        | Error::DeregisterFailed { cause, .. }
        | Error::DiscoverFailed { cause, .. }
        | Error::PublishFailed { cause, .. } => {
            let code = cause.code.as_deref();
            code.is_some_and(|code| code.starts_with("AccessDenied"))
        }
        _ => false,
    })
}

/// Puts the answer where CloudFormation waits for it.
///
/// # Errors
/// Returns the cause if the URL is not one of CloudFormation's under this suffix, or does not accept the answer.
pub async fn answer(
    sdk: &SdkConfig,
    url_suffix: &Result<String, Error>,
    request: &Request,
    outcome: Result<(), &Errors>,
) -> Result<(), String> {
    let url_suffix = url_suffix.as_ref().map_err(ToString::to_string)?;
    let url: Option<Uri> = request.response_url.parse().ok();
    let url = url
        .filter(|url| is_cloudformations(url, url_suffix))
        .ok_or_else(|| {
            format!("the ResponseURL is not a CloudFormation response URL under {url_suffix}")
        })?;
    let status = if outcome.is_ok() { "SUCCESS" } else { "FAILED" };
    let reason = outcome.err().map_or_else(String::new, reason);
    info!(status, reason, "answering CloudFormation");
    let body = json!({
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": request.physical_resource_id,
        "StackId": request.stack_id,
        "RequestId": request.request_id,
        "LogicalResourceId": request.logical_resource_id,
    });
    aws::put(sdk, &url, body.to_string(), ANSWER_TIMEOUT).await
}

/// True if the URL is in one of the buckets in which CloudFormation waits for answers. The caller of the
/// function chooses the URL, so nothing may be put anywhere else.
fn is_cloudformations(url: &Uri, url_suffix: &str) -> bool {
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    url.scheme_str() == Some("https")
        && host.starts_with("cloudformation-custom-resource-response-")
        && host.ends_with(&format!(".{url_suffix}"))
}
