//! Metrics as CloudWatch accepts them. This is a state machine that is told the time and knows no
//! transport.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::elb::Refusal;

#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    pub namespace: String,
    pub metric: String,
    /// The dimensions, in the order given.
    pub dimensions: Vec<(String, String)>,
    pub timestamp: SystemTime,
    pub unit: String,
    /// All single values. Each of `Values` occurs as often as `Counts` says.
    pub samples: Vec<f64>,
}

/// Shows a datum as `dimension=value metric sum`.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimensions = self.dimensions.iter();
        let dimensions: Vec<_> = dimensions
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let sum: f64 = self.samples.iter().sum();
        write!(f, "{} {} {sum}", dimensions.join(","), self.metric)
    }
}

impl Datum {
    /// Returns the one value.
    ///
    /// # Panics
    /// Panics if there is not exactly one.
    pub fn value(&self) -> f64 {
        let [value] = self.samples[..] else {
            panic!("not one value: {self:?}")
        };
        value
    }
}

#[derive(Debug, Default)]
pub struct Metrics {
    pub data: Vec<Datum>,
}

impl Metrics {
    /// Takes all of a call's data or none.
    pub fn put(
        &mut self,
        now: SystemTime,
        namespace: &str,
        data: Vec<Datum>,
    ) -> Result<(), Refusal> {
        let invalid = |message: &str| {
            Err(Refusal {
                code: "InvalidParameterValue",
                message: message.to_owned(),
            })
        };
        if namespace.is_empty() || namespace.len() > 255 || namespace.starts_with(':') {
            return invalid("The parameter Namespace is invalid.");
        }
        if namespace.starts_with("AWS/") {
            return invalid("The value AWS/ for parameter Namespace is invalid.");
        }
        if data.is_empty() || data.len() > 1000 {
            return invalid("The collection MetricData must have a size between 1 and 1000.");
        }
        let (fortnight, two_hours) = (Duration::from_secs(14 * 86_400), Duration::from_secs(7200));
        let is_timely = |datum: &Datum| {
            datum.timestamp >= now - fortnight && datum.timestamp <= now + two_hours
        };
        if !data.iter().all(is_timely) {
            return invalid(
                "The parameter MetricData.member.Timestamp must be within two weeks past and two hours ahead.",
            );
        }
        if data
            .iter()
            .any(|datum| datum.dimensions.iter().any(|(_, value)| value.is_empty()))
        {
            return invalid("The parameter MetricData.member.Dimensions.member.Value is required.");
        }
        self.data.extend(data);
        Ok(())
    }
}
