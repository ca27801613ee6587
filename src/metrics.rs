//! The outcome of each reconcile is kept until CloudWatch has it. A publication that fails undoes and blocks
//! nothing: its data are published with the next one, with their own timestamps.

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
use data::Minutes;
pub use data::Sample;

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>
const DATA_PER_CALL: usize = 1000;
const MAX_PENDING: usize = 10_000;
const MAX_AGE: Duration = Duration::from_secs(3 * 60 * 60);

/// The codes for data that CloudWatch will never take. An answer may carry the API's code or the name
/// of its Smithy shape, which ends with `Exception`.
const INVALID: [&str; 6] = [
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "MissingParameter",
    "MissingRequiredParameter",
    "Validation",
    "ValidationError",
];

/// The place that data are published to.
pub struct Destination<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
    /// The value of the dimension `FunctionName`.
    pub function_name: &'a str,
}

/// Everything that is not published yet.
#[derive(Debug, Default)]
pub struct Metrics {
    minutes: Minutes,
    /// The oldest come first.
    pending: VecDeque<MetricDatum>,
}

impl Metrics {
    /// Keeps the sample for the next publication.
    pub fn record(&mut self, sample: Sample) {
        self.minutes.record(sample);
    }

    /// Calls `PutMetricData` with everything that is pending, oldest first. It makes no call if there are no data.
    ///
    /// Data that were not acknowledged are kept for the next time, even if the future is dropped. Data that
    /// CloudWatch calls invalid are dropped, because they would be invalid forever. After any other failure
    /// the remaining calls are not tried.
    ///
    /// Returns one [`Error::PublishFailed`] for each call that failed.
    pub async fn publish(&mut self, destination: &Destination<'_>, now: SystemTime) -> Vec<Error> {
        self.make_data(destination.function_name, now);
        let mut failures = Vec::new();
        while !self.pending.is_empty() {
            let data: Vec<_> = self.pending.iter().take(DATA_PER_CALL).cloned().collect();
            let count = data.len();
            let call = destination
                .client
                .put_metric_data()
                .set_metric_data(Some(data));
            if let Err(failed) = call.namespace(destination.namespace).send().await {
                let is_dropped = is_invalid(&failed);
                failures.push(destination.failed(count, aws::cause(&failed), is_dropped));
                if !is_dropped {
                    break;
                }
            }
            self.pending.drain(..count);
        }
        failures
    }

    /// The error of an invocation whose deadline came before CloudWatch had acknowledged everything.
    pub fn deadline_exceeded(&mut self, destination: &Destination<'_>, now: SystemTime) -> Error {
        self.make_data(destination.function_name, now);
        let cause = "the invocation ran out of time".to_owned();
        destination.failed(self.pending.len(), cause.into(), false)
    }

    /// Turns samples into pending data, and drops the oldest data if they are too many or too old.
    fn make_data(&mut self, function_name: &str, now: SystemTime) {
        self.pending
            .extend(self.minutes.take_data(function_name, now));
        let count = self.pending.len();
        let oldest = DateTime::from(now - MAX_AGE);
        let is_young = |datum: &MetricDatum| datum.timestamp().is_some_and(|at| *at >= oldest);
        self.pending.retain(is_young);
        let excess = self.pending.len().saturating_sub(MAX_PENDING);
        self.pending.drain(..excess);
        let dropped = count - self.pending.len();
        if dropped > 0 {
            error!(
                dropped,
                "dropped the oldest metric data, because they were unpublished for 3 hours or there were \
                 more than 10,000: clients are not affected, but only this log has the failovers and \
                 failures of that time; what is left goes out once CloudWatch can be reached"
            );
        }
    }
}

fn is_invalid(error: &SdkError<PutMetricDataError>) -> bool {
    let code = error.code().unwrap_or_default();
    INVALID.contains(&code.trim_end_matches("Exception"))
}

impl Destination<'_> {
    fn failed(&self, count: usize, cause: Cause, is_dropped: bool) -> Error {
        Error::PublishFailed {
            count,
            namespace: self.namespace.to_owned(),
            cause,
            is_dropped,
        }
    }
}
