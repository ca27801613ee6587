//! Puts a body to a signed URL. It uses the SDK's own client for its connections, time limits and retries.

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

use super::cause::chain;

const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Puts the body to the URL's own host, unless `AWS_ENDPOINT_URL` says where all calls go, as in a test. The
/// path and the query are sent to the letter and without a content type, because the URL is signed.
///
/// # Errors
/// Returns the cause if the URL did not accept the body `within` this time.
pub async fn put(sdk: &SdkConfig, url: &Uri, body: String, within: Duration) -> Result<(), String> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let origin = format!("{}://{authority}", url.scheme_str().unwrap_or("https"));
    let path_and_query = url.path_and_query().map_or("/", |path| path.as_str());
    let path_and_query = path_and_query.to_owned();
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(within)
        .build();
    let mut operation = Operation::builder()
        .service_name("S3")
        .operation_name("PutObject")
        .endpoint_url(sdk.endpoint_url().unwrap_or(&origin))
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
    operation.invoke(body).await.map_err(|error| chain(&error))
}

/// The URL answered with a status that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {0}")]
struct Refused(u16);
