//! Report to CloudWatch: what each reconcile came to, kept until it is published. A publication
//! that fails undoes and blocks nothing; its data go out with the next one, at the time they belong
//! to.

mod data;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::operation::put_metric_data::PutMetricDataError;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::MetricDatum;
use tracing::error;

use crate::aws::{self, Cause, SdkError};
use crate::error::Error;
pub use data::Outcome;
use data::data;

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>
const DATA_PER_CALL: usize = 1000;
const MAX_PENDING: usize = 10_000;
const MAX_AGE: Duration = Duration::from_secs(3 * 60 * 60);

/// Where the data go.
pub struct Destination<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
    /// The value of the dimension `FunctionName`.
    pub function_name: &'a str,
}

/// What is not published yet, oldest first.
#[derive(Debug, Default)]
pub struct Metrics {
    outcomes: Vec<Outcome>,
    pending: VecDeque<MetricDatum>,
}

/// What a publication could not publish.
#[derive(Debug, Default)]
pub struct Unpublished {
    /// Of data that are gone.
    pub dropped: Vec<Error>,
    /// Of data that are pending still.
    pub kept: Option<Error>,
}

impl Metrics {
    /// Keeps it for the next publication.
    pub fn record(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// `PutMetricData` with all that is pending, oldest first; nothing without data.
    ///
    /// What was not acknowledged stays for the next time, also when the future is dropped. Data that
    /// CloudWatch calls invalid are dropped, since they would be invalid for ever; after any other
    /// failure the calls behind it are not tried.
    pub async fn publish(&mut self, destination: &Destination<'_>) -> Unpublished {
        self.settle(destination.function_name);
        self.drop_excess(SystemTime::now());
        let mut unpublished = Unpublished::default();
        while !self.pending.is_empty() {
            let data: Vec<_> = self.pending.iter().take(DATA_PER_CALL).cloned().collect();
            let count = data.len();
            if let Err(failed) = put(destination, data).await {
                let is_dropped = is_invalid(&failed);
                let error = publish_failed(destination, count, aws::cause(&failed));
                log_failure(&error, is_dropped);
                if !is_dropped {
                    unpublished.kept = Some(error);
                    break;
                }
                unpublished.dropped.push(error);
            }
            self.pending.drain(..count);
        }
        unpublished
    }

    /// What is answered when the deadline came before all was acknowledged.
    pub fn deadline_exceeded(&mut self, destination: &Destination<'_>) -> Error {
        self.settle(destination.function_name);
        let cause = "the invocation's deadline came".to_owned();
        let error = publish_failed(destination, self.pending.len(), cause.into());
        log_failure(&error, false);
        error
    }

    /// Turns what was recorded into data.
    fn settle(&mut self, function_name: &str) {
        let outcomes = std::mem::take(&mut self.outcomes);
        self.pending.extend(data(&outcomes, function_name));
    }

    fn drop_excess(&mut self, now: SystemTime) {
        let oldest = DateTime::from(now - MAX_AGE);
        let is_old = |datum: &&MetricDatum| {
            datum
                .timestamp()
                .is_none_or(|timestamp| *timestamp < oldest)
        };
        let old = self.pending.iter().take_while(is_old).count();
        let excess = self.pending.len().saturating_sub(MAX_PENDING).max(old);
        if excess > 0 {
            error!(
                dropped = excess,
                "dropped metric data that could not be published for too long"
            );
            self.pending.drain(..excess);
        }
    }
}

async fn put(
    destination: &Destination<'_>,
    data: Vec<MetricDatum>,
) -> Result<(), SdkError<PutMetricDataError>> {
    let call = destination
        .client
        .put_metric_data()
        .namespace(destination.namespace);
    call.set_metric_data(Some(data)).send().await.map(drop)
}

/// By the codes of the API and by the names of its Smithy shapes, of which an answer may carry
/// either.
fn is_invalid(error: &SdkError<PutMetricDataError>) -> bool {
    let code = error.code().map(|code| code.trim_end_matches("Exception"));
    matches!(
        code,
        Some(
            "InvalidParameterValue"
                | "InvalidParameterCombination"
                | "MissingParameter"
                | "MissingRequiredParameter"
                | "Validation"
                | "ValidationError"
        )
    )
}

fn publish_failed(destination: &Destination<'_>, count: usize, cause: Cause) -> Error {
    Error::PublishFailed {
        count,
        namespace: destination.namespace.to_owned(),
        cause,
    }
}

fn log_failure(error: &Error, is_dropped: bool) {
    error!(
        "errorType" = error.error_type(),
        "errorMessage" = %error,
        "isDropped" = is_dropped,
        "publishing failed"
    );
}
