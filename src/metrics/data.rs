//! Makes data for CloudWatch from samples. There is one datum per dimension, metric and minute,
//! however many reconciles that minute had.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{self, MetricDatum, StandardUnit};

const METRICS: [&str; 4] = [
    "Failover",
    "ReconcileFailure",
    "NoHealthyTarget",
    "TagInvalid",
];

/// The outcome of one reconcile of one target group, or of what comes before it. A value that is `None` is no sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub at: SystemTime,
    /// The value of the dimension `TargetGroup`. `None` means no group.
    pub target_group: Option<String>,
    pub is_failover: Option<bool>,
    /// The reconcile failed, or it left a doubtful plan or an unsent call at the end of the
    /// invocation. Or the fleet could not be listed.
    pub is_failure: Option<bool>,
    /// True if any desired target is healthy or initial, or if this reconcile registered one: a new target takes the
    /// load balancer minutes, which is no incident. It is `None` unless the group was resolved and described.
    pub is_served: Option<bool>,
    /// A tag of the group cannot be read.
    pub is_tag_invalid: Option<bool>,
}

impl Sample {
    /// Makes a sample without values.
    pub fn new(at: SystemTime, target_group: Option<String>) -> Self {
        Sample {
            at,
            target_group,
            is_failover: None,
            is_failure: None,
            is_served: None,
            is_tag_invalid: None,
        }
    }
}

/// The samples that are in no datum yet, by minute and dimension.
#[derive(Debug, Default)]
pub struct Minutes(BTreeMap<(u64, Dimension), Tally>);

/// Data are published in this order: first each target group's for a minute, then the function's for all groups.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dimension {
    TargetGroup(String),
    FunctionName,
}

#[derive(Debug, Default)]
struct Tally {
    last: Option<SystemTime>,
    /// A target group's samples are published once one of them is not 0. The function's samples are always published.
    is_published: bool,
    /// How many samples of each metric are 0, and how many are 1.
    counts: [[u32; 2]; METRICS.len()],
}

impl Minutes {
    pub fn record(&mut self, sample: Sample) {
        let values = [
            sample.is_failover,
            sample.is_failure,
            sample.is_served.map(|is_served| !is_served),
            sample.is_tag_invalid,
        ];
        let is_eventful = values.contains(&Some(true));
        let of_group = sample.target_group.map(Dimension::TargetGroup);
        let of_group = of_group.map(|dimension| (dimension, is_eventful));
        for (dimension, is_published) in of_group
            .into_iter()
            .chain([(Dimension::FunctionName, true)])
        {
            let key = (minute(sample.at), dimension);
            let tally = self.0.entry(key).or_default();
            tally.last = tally.last.max(Some(sample.at));
            tally.is_published |= is_published;
            for (counts, value) in tally.counts.iter_mut().zip(values) {
                if let Some(value) = value {
                    counts[usize::from(value)] += 1;
                }
            }
        }
    }

    /// Takes the data that can be published now, oldest minute first. A target group's zeros stay until their
    /// minute is over, because a later sample of that minute may cause them to be published.
    pub fn take_data(&mut self, function_name: &str, now: SystemTime) -> Vec<MetricDatum> {
        let published = self.0.iter_mut().filter(|(_, tally)| tally.is_published);
        let data = published.flat_map(|((_, dimension), tally)| {
            let (name, value) = match dimension {
                Dimension::TargetGroup(target_group) => ("TargetGroup", target_group.as_str()),
                Dimension::FunctionName => ("FunctionName", function_name),
            };
            tally.take_data(&types::Dimension::builder().name(name).value(value).build())
        });
        let data = data.collect();
        self.0.retain(|(of, _), _| *of >= minute(now));
        data
    }
}

/// The protocol's timestamps have milliseconds at most, and a metric's datum is about a minute.
/// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html#timestamp-type-serialization>
fn whole_second(at: SystemTime) -> DateTime {
    DateTime::from_secs(DateTime::from(at).secs())
}

/// A minute is CloudWatch's shortest period for these metrics.
fn minute(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs() / 60
}

impl Tally {
    fn take_data(&mut self, dimension: &types::Dimension) -> Vec<MetricDatum> {
        let counts = std::mem::take(&mut self.counts);
        let datum = |(metric, counts): (&str, [u32; 2])| {
            let datum = MetricDatum::builder()
                .metric_name(metric)
                .dimensions(dimension.clone())
                .set_timestamp(self.last.map(whole_second))
                .unit(StandardUnit::Count);
            let values = [0.0, 1.0].into_iter().zip(counts);
            let seen = values.filter(|(_, count)| *count > 0);
            let datum = seen.fold(datum, |datum, (value, count)| {
                datum.values(value).counts(count.into())
            });
            (counts != [0, 0]).then(|| datum.build())
        };
        METRICS.into_iter().zip(counts).filter_map(datum).collect()
    }
}
