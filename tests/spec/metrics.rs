//! What is published of many reconciles, and that what is not published yet is bound in number and
//! age; the real client, in this process.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use nlb_hostname_target::aws;
use nlb_hostname_target::metrics::{Destination, Metrics, Outcome};
use stand_in::aws::{Aws, Fault};
use stand_in::cloudwatch::Datum;

const HOUR: Duration = Duration::from_secs(3600);
const UNAVAILABLE: Fault = Fault::Error(503, "ServiceUnavailable", "try later");

fn outcome(at: SystemTime) -> Outcome {
    Outcome {
        at,
        target_group: "targetgroup/redis/0123456789abcdef".to_owned(),
        is_failover: false,
        is_failure: false,
    }
}

/// What arrives of `metrics` after one publication has failed.
async fn published(mut metrics: Metrics) -> Vec<Datum> {
    let cloudwatch = Aws::default();
    let server = cloudwatch.serve().await;
    let sdk = aws::configure(aws_config::defaults(BehaviorVersion::latest()))
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::for_tests())
        .endpoint_url(format!("http://{}", server.address));
    let destination = Destination {
        client: &aws_sdk_cloudwatch::Client::new(&sdk.load().await),
        namespace: "NlbHostnameTarget",
        function_name: "nlb-hostname-target",
    };
    cloudwatch.inject_always("PutMetricData", UNAVAILABLE);
    assert!(metrics.publish(&destination).await.kept.is_some());
    assert_eq!(cloudwatch.take_data(), []);
    cloudwatch.heal();
    assert!(metrics.publish(&destination).await.kept.is_none());
    cloudwatch.take_data()
}

/// A minute of some minutes ago, and a second of it.
fn at(minute: u64, second: u64) -> SystemTime {
    static FIRST: LazyLock<u64> = LazyLock::new(|| {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_epoch.unwrap().as_secs() / 60 - 10
    });
    SystemTime::UNIX_EPOCH + Duration::from_secs((*FIRST + minute) * 60 + second)
}

/// `dimension metric: samples`, with the minute and second.
fn lines(data: &[Datum]) -> Vec<String> {
    let line = |datum: &Datum| {
        let since = datum
            .timestamp
            .duration_since(at(0, 0))
            .unwrap()
            .as_secs_f64()
            .round();
        let (minute, second) = ((since / 60.0).floor(), since % 60.0);
        let dimension = &datum.dimensions[0].1;
        format!(
            "{minute}:{second:02} {dimension} {} {:?}",
            datum.metric, datum.samples
        )
    };
    data.iter().map(line).collect()
}

#[tokio::test]
async fn what_one_minute_came_to_is_one_datum_with_all_its_values() {
    let mut metrics = Metrics::default();
    for (second, is_failover, is_failure) in [
        (1, false, false),
        (6, true, false),
        (11, false, true),
        (16, false, false),
    ] {
        metrics.record(Outcome {
            is_failover,
            is_failure,
            ..outcome(at(0, second))
        });
    }
    metrics.record(outcome(at(1, 3)));
    let redis = "targetgroup/redis/0123456789abcdef";
    assert_eq!(
        lines(&published(metrics).await),
        [
            format!("0:16 {redis} Failover [0.0, 0.0, 0.0, 1.0]"),
            format!("0:16 {redis} ReconcileFailure [0.0, 0.0, 0.0, 1.0]"),
            "0:16 nlb-hostname-target Failover [0.0, 0.0, 0.0, 1.0]".to_owned(),
            "0:16 nlb-hostname-target ReconcileFailure [0.0, 0.0, 0.0, 1.0]".to_owned(),
            format!("1:03 {redis} Failover [0.0]"),
            format!("1:03 {redis} ReconcileFailure [0.0]"),
            "1:03 nlb-hostname-target Failover [0.0]".to_owned(),
            "1:03 nlb-hostname-target ReconcileFailure [0.0]".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_sum_is_over_the_reconciles_that_all_groups_made_at_the_same_turn() {
    let mut metrics = Metrics::default();
    for (group, second, is_failover) in [
        ("a", 1, true),
        ("b", 1, true),
        ("a", 6, false),
        ("b", 7, true),
        ("a", 11, false),
    ] {
        metrics.record(Outcome {
            target_group: group.to_owned(),
            is_failover,
            ..outcome(at(0, second))
        });
    }
    let lines = lines(&published(metrics).await);
    let failovers: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("Failover"))
        .collect();
    assert_eq!(
        failovers,
        [
            "0:11 a Failover [0.0, 0.0, 1.0]",
            "0:07 b Failover [1.0, 1.0]",
            "0:11 nlb-hostname-target Failover [0.0, 1.0, 2.0]",
        ]
    );
}

#[tokio::test]
async fn data_older_than_three_hours_are_dropped() {
    let now = SystemTime::now();
    let mut metrics = Metrics::default();
    for age in [
        4 * HOUR,
        3 * HOUR + HOUR / 60,
        3 * HOUR - HOUR / 60,
        Duration::ZERO,
    ] {
        metrics.record(outcome(now - age));
    }
    let data = published(metrics).await;
    let of_groups = data
        .iter()
        .filter(|datum| datum.dimensions[0].0 == "TargetGroup");
    // Timestamps go out as fractions of seconds: to the nearest minute.
    let age = |datum: &Datum| now.duration_since(datum.timestamp).unwrap_or_default();
    let ages: Vec<_> = of_groups
        .map(|datum| (age(datum).as_secs_f64() / 60.0).round())
        .collect();
    assert_eq!(
        ages,
        [179.0, 179.0, 0.0, 0.0],
        "in minutes, both metrics of each"
    );
}

#[tokio::test]
async fn the_oldest_beyond_ten_thousand_are_dropped() {
    let now = SystemTime::now();
    let mut metrics = Metrics::default();
    for second in (0..6000).rev() {
        metrics.record(Outcome {
            target_group: format!("targetgroup/{second}"),
            ..outcome(now - Duration::from_secs(second))
        });
    }
    let data = published(metrics).await;
    assert_eq!(data.len(), 10_000);
    let oldest = data.iter().map(|datum| datum.timestamp).min().unwrap();
    let age = now.duration_since(oldest).unwrap().as_secs();
    // Of a minute's 60 groups and the function two data each: the last 82 minutes.
    assert!((4860..=4980).contains(&age), "{age}");
}
