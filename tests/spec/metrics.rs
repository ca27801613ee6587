//! What is not published yet is bound in number and age; the real client, in this process.

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
        metrics.record(outcome(now - Duration::from_secs(second)));
    }
    let data = published(metrics).await;
    assert_eq!(data.len(), 10_000);
    let oldest = data.iter().map(|datum| datum.timestamp).min().unwrap();
    let age = now.duration_since(oldest).unwrap().as_secs();
    assert!((4990..=5000).contains(&age), "{age}");
}
