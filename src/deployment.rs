//! The custom resource of the template: CloudFormation asks during a deployment whether the function
//! does its work, and waits for the answer, which is put to a URL that comes with the question.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html>

use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{
    HttpStatusCodeClassifier, TransientErrorClassifier,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use http::Uri;
use serde::Serialize;
use tokio::time::Instant;
use tracing::info;

use crate::error::Errors;
use crate::event::Fields;
use crate::window::Deadline;

/// Before the template's `ServiceTimeout` of 60 s, and with time for a cold start.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// Of which so much is kept for the answer itself.
const ANSWER_RESERVE: Duration = Duration::from_secs(5);
/// CloudFormation takes 4096 bytes in all; an error of many target groups can be longer.
const MAX_REASON: usize = 2048;
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// With all retries: less than the reserve.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);

/// What is to become of the stack's resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestType {
    Create,
    Update,
    Delete,
}

impl RequestType {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "Create" => Some(RequestType::Create),
            "Update" => Some(RequestType::Update),
            "Delete" => Some(RequestType::Delete),
            _ => None,
        }
    }
}

/// CloudFormation's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub request_type: RequestType,
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    /// Of an update or a delete: what was answered before, or what CloudFormation chose without an
    /// answer.
    physical_resource_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    status: &'static str,
    reason: String,
    physical_resource_id: String,
    stack_id: &'a str,
    request_id: &'a str,
    logical_resource_id: &'a str,
}

impl Request {
    /// `None` for what does not say what is to be done and where to answer.
    pub fn read(fields: &Fields) -> Option<Request> {
        let text = |name| fields.get::<String>(name);
        Some(Request {
            request_type: RequestType::parse(&text("RequestType")?)?,
            response_url: text("ResponseURL")?,
            stack_id: text("StackId").unwrap_or_default(),
            request_id: text("RequestId").unwrap_or_default(),
            logical_resource_id: text("LogicalResourceId").unwrap_or_default(),
            physical_resource_id: text("PhysicalResourceId"),
        })
    }

    /// Constant for the resource, so that no update reads as a replacement.
    fn physical_resource_id(&self) -> String {
        let given = self.physical_resource_id.clone();
        given.unwrap_or_else(|| format!("{}/{}", self.stack_id, self.logical_resource_id))
    }

    fn answer(&self, outcome: Result<(), &Errors>) -> Answer<'_> {
        Answer {
            status: if outcome.is_ok() { "SUCCESS" } else { "FAILED" },
            reason: outcome.err().map_or_else(String::new, reason),
            physical_resource_id: self.physical_resource_id(),
            stack_id: &self.stack_id,
            request_id: &self.request_id,
            logical_resource_id: &self.logical_resource_id,
        }
    }
}

fn reason(errors: &Errors) -> String {
    let mut reason = format!("{}: {errors}", errors.error_type());
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push_str(" …");
    }
    reason
}

/// When the work ends, so that CloudFormation is answered in time, and before Lambda's `timeout`.
pub fn deadline(timeout: Instant) -> Deadline {
    let answer_by = timeout.min(Instant::now() + ANSWER_WITHIN);
    Deadline::before(answer_by - ANSWER_RESERVE)
}

/// Puts the answer where CloudFormation waits for it.
///
/// # Errors
/// The cause, when the URL is none of CloudFormation's or does not take the answer.
pub async fn answer(
    sdk: &SdkConfig,
    request: &Request,
    outcome: Result<(), &Errors>,
) -> Result<(), String> {
    let url: Uri = request
        .response_url
        .parse()
        .ok()
        .filter(|url| is_answerable(url, sdk.endpoint_url()))
        .ok_or("the ResponseURL is none of CloudFormation's")?;
    let answer = request.answer(outcome);
    info!(
        "status" = answer.status,
        "reason" = answer.reason,
        "answering CloudFormation"
    );
    let body = serde_json::to_string(&answer).map_err(|error| error.to_string())?;
    put(sdk, &url, body).await
}

/// Whether the answer may go there: to CloudFormation's buckets, or to the emulator that all calls go
/// to.
fn is_answerable(url: &Uri, emulator: Option<&str>) -> bool {
    let origin = |url: &Uri| Some((url.scheme()?.clone(), url.authority()?.clone()));
    let is_emulator = emulator
        .and_then(|emulator| emulator.parse().ok())
        .is_some_and(|emulator| origin(&emulator).is_some() && origin(&emulator) == origin(url));
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let is_bucket = url.scheme_str() == Some("https")
        && host.starts_with("cloudformation-custom-resource-response-")
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    is_bucket || is_emulator
}

/// With the SDK's own client, for its connections, time limits and retries. The URL is signed, and so
/// goes out to the letter and without a content type.
async fn put(sdk: &SdkConfig, url: &Uri, body: String) -> Result<(), String> {
    let origin = Uri::builder()
        .scheme(url.scheme_str().unwrap_or_default())
        .authority(url.authority().map_or("", |authority| authority.as_str()))
        .path_and_query("/")
        .build()
        .map_err(|error| error.to_string())?;
    let path_and_query = url.path_and_query().map_or("/", |path| path.as_str());
    let path_and_query = path_and_query.to_owned();
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(ANSWER_TIMEOUT)
        .build();
    let mut operation = Operation::builder()
        .service_name("CloudFormation")
        .operation_name("custom resource response")
        .endpoint_url(&origin.to_string())
        .no_auth()
        .standard_retry(&RetryConfig::standard().with_initial_backoff(Duration::from_millis(50)))
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(TransientErrorClassifier::<Refused>::new())
        .timeout_config(timeouts);
    if let Some(client) = sdk.http_client() {
        operation = operation.http_client(client);
    }
    if let Some(sleep) = sdk.sleep_impl() {
        operation = operation.sleep_impl(sleep);
    }
    if let Some(time) = sdk.time_source() {
        operation = operation.time_source(time);
    }
    let operation = operation
        .serializer(move |body: String| {
            let mut request = HttpRequest::new(SdkBody::from(body));
            request.set_method("PUT")?;
            request.set_uri(path_and_query.as_str())?;
            Ok(request)
        })
        .deserializer(|response: &HttpResponse| match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(OrchestratorError::operation(Refused(status.as_u16()))),
        })
        .build();
    operation
        .invoke(body)
        .await
        .map_err(|error| crate::aws::chain(&error))
}

/// The URL's own refusal.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {0}")]
struct Refused(u16);
