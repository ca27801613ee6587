//! What the reconciles came to, as CloudWatch takes it: a datum for each target group, metric and
//! minute, however often it was looked at in that minute.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::builders::MetricDatumBuilder;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};

/// What one reconcile of one target group came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub at: SystemTime,
    /// The value of the dimension `TargetGroup`.
    pub target_group: String,
    pub is_failover: bool,
    pub is_failure: bool,
}

/// For each minute those of each target group, then the sums over all of them: of those that are
/// published together, the first reconciles of all groups in that minute make the first sum, the
/// second ones the second.
pub fn data(outcomes: &[Outcome], function_name: &str) -> Vec<MetricDatum> {
    let mut minutes: BTreeMap<u64, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        minutes.entry(minute(outcome.at)).or_default().push(outcome);
    }
    let of_minute = |outcomes| data_of_minute(outcomes, function_name);
    minutes.into_values().flat_map(of_minute).collect()
}

/// CloudWatch's shortest period for them.
fn minute(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs() / 60
}

fn data_of_minute(outcomes: Vec<&Outcome>, function_name: &str) -> Vec<MetricDatum> {
    let last = |outcomes: &[&Outcome]| outcomes.iter().map(|outcome| outcome.at).max();
    let groups = by_target_group(&outcomes);
    let mut data = Vec::new();
    for (group, outcomes) in &groups {
        let samples: Vec<_> = outcomes.iter().map(|outcome| sum([*outcome])).collect();
        data.extend(of_all(("TargetGroup", group), last(outcomes), &samples));
    }
    let rounds = groups.iter().map(|(_, outcomes)| outcomes.len()).max();
    let round = |round| {
        sum(groups
            .iter()
            .filter_map(move |(_, of)| of.get(round).copied()))
    };
    let sums: Vec<_> = (0..rounds.unwrap_or(0)).map(round).collect();
    data.extend(of_all(
        ("FunctionName", function_name),
        last(&outcomes),
        &sums,
    ));
    data
}

/// Both in the order in which they came.
fn by_target_group<'a>(outcomes: &[&'a Outcome]) -> Vec<(&'a str, Vec<&'a Outcome>)> {
    let mut groups: Vec<(&str, Vec<&Outcome>)> = Vec::new();
    for outcome in outcomes {
        let name = outcome.target_group.as_str();
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => groups.push((name, vec![outcome])),
        }
    }
    groups
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    failovers: u32,
    failures: u32,
}

fn sum<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Sample {
    let mut sum = Sample::default();
    for outcome in outcomes {
        sum.failovers += u32::from(outcome.is_failover);
        sum.failures += u32::from(outcome.is_failure);
    }
    sum
}

fn of_all(
    (dimension, value): (&str, &str),
    at: Option<SystemTime>,
    samples: &[Sample],
) -> [MetricDatum; 2] {
    let failovers: Vec<_> = samples.iter().map(|sample| sample.failovers).collect();
    let failures: Vec<_> = samples.iter().map(|sample| sample.failures).collect();
    [("Failover", failovers), ("ReconcileFailure", failures)].map(|(metric, values)| {
        let dimension = Dimension::builder().name(dimension).value(value).build();
        let datum = MetricDatum::builder()
            .metric_name(metric)
            .dimensions(dimension)
            .set_timestamp(at.map(DateTime::from))
            .unit(StandardUnit::Count);
        match values[..] {
            [value] => datum.value(value.into()).build(),
            _ => counted(datum, &values).build(),
        }
    })
}

/// Each value and how often it was there, so that every statistic is that of the single data.
fn counted(datum: MetricDatumBuilder, values: &[u32]) -> MetricDatumBuilder {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for value in values {
        *counts.entry(*value).or_default() += 1;
    }
    counts.into_iter().fold(datum, |datum, (value, count)| {
        datum.values(value.into()).counts(count.into())
    })
}
