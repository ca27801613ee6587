//! Samples become data, and unpublished data are kept for some time. The real client publishes in this process, at the
//! times that a test says.

use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use nlb_hostname_target::error::Error;
use nlb_hostname_target::metrics::{Destination, Metrics, Sample};
use stand_in::aws::Aws;
use stand_in::cloudwatch::Datum;
use stand_in::world::sdk_over;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use crate::reading::UNAVAILABLE;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const GROUP: &str = "targetgroup/redis/0123456789abcdef";

/// Returns the sample of a reconcile in which nothing happened.
fn quiet(at: SystemTime) -> Sample {
    Sample {
        is_failover: Some(false),
        is_failure: Some(false),
        ..Sample::new(at, Some(GROUP.to_owned()))
    }
}

fn failover(at: SystemTime) -> Sample {
    Sample {
        is_failover: Some(true),
        ..quiet(at)
    }
}

fn failure(at: SystemTime) -> Sample {
    Sample {
        is_failure: Some(true),
        ..quiet(at)
    }
}

fn of(target_group: &str, sample: Sample) -> Sample {
    Sample {
        target_group: Some(target_group.to_owned()),
        ..sample
    }
}

/// A CloudWatch of its own, and the metrics that are published there.
struct Publisher {
    cloudwatch: Aws,
    client: aws_sdk_cloudwatch::Client,
    metrics: Metrics,
}

impl Publisher {
    fn new() -> Self {
        let cloudwatch = Aws::default();
        Publisher {
            client: aws_sdk_cloudwatch::Client::new(&sdk_over(cloudwatch.clone())),
            cloudwatch,
            metrics: Metrics::default(),
        }
    }

    fn record(&mut self, samples: impl IntoIterator<Item = Sample>) {
        samples
            .into_iter()
            .for_each(|sample| self.metrics.record(sample));
    }

    async fn try_publish(&mut self, now: SystemTime) -> Vec<Error> {
        let destination = Destination {
            client: &self.client,
            namespace: "NlbHostnameTarget",
            function_name: "nlb-hostname-target",
        };
        self.metrics.publish(&destination, now).await
    }

    /// Publishes at that time, and returns what arrives.
    async fn publish(&mut self, now: SystemTime) -> Vec<Datum> {
        assert_eq!(self.try_publish(now).await, []);
        self.cloudwatch.take_data()
    }

    /// Publishes at that time to a CloudWatch that does not take the data, and returns the error.
    async fn fail(&mut self, now: SystemTime) -> Error {
        self.cloudwatch.inject_always("PutMetricData", UNAVAILABLE);
        let mut failures = self.try_publish(now).await;
        assert_eq!(self.cloudwatch.take_data(), []);
        self.cloudwatch.heal();
        failures.pop().expect("an error")
    }
}

/// Returns the time at this minute and second, counted from some hours ago: CloudWatch takes no data from the future.
fn at(minute: u32, second: u32) -> SystemTime {
    static FIRST: LazyLock<SystemTime> = LazyLock::new(|| {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let minutes = since_epoch.unwrap().as_secs() / 60 - 240;
        SystemTime::UNIX_EPOCH + Duration::from_secs(minutes * 60)
    });
    *FIRST + minute * MINUTE + second * SECOND
}

/// Writes each datum as `minute:second dimension metric samples`.
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

#[tokio::test(start_paused = true)]
async fn what_one_minute_came_to_is_one_datum_with_all_its_values() {
    let mut publisher = Publisher::new();
    publisher.record([quiet(at(0, 1)), failover(at(0, 6)), failure(at(0, 11))]);
    publisher.record([quiet(at(0, 16)), failure(at(1, 3))]);
    let data = publisher.publish(at(1, 4)).await;
    assert_eq!(
        lines(&data),
        [
            format!("0:16 {GROUP} Failover [0.0, 0.0, 0.0, 1.0]"),
            format!("0:16 {GROUP} ReconcileFailure [0.0, 0.0, 0.0, 1.0]"),
            "0:16 nlb-hostname-target Failover [0.0, 0.0, 0.0, 1.0]".to_owned(),
            "0:16 nlb-hostname-target ReconcileFailure [0.0, 0.0, 0.0, 1.0]".to_owned(),
            format!("1:03 {GROUP} Failover [0.0]"),
            format!("1:03 {GROUP} ReconcileFailure [1.0]"),
            "1:03 nlb-hostname-target Failover [0.0]".to_owned(),
            "1:03 nlb-hostname-target ReconcileFailure [1.0]".to_owned(),
        ]
    );
    let is_one_of = |datum: &Datum| {
        [
            ("TargetGroup", GROUP),
            ("FunctionName", "nlb-hostname-target"),
        ]
        .map(|(name, value)| vec![(name.to_owned(), value.to_owned())])
        .contains(&datum.dimensions)
    };
    assert!(data.iter().all(is_one_of));
    assert!(data.iter().all(|datum| datum.unit == "Count"));
}

#[tokio::test(start_paused = true)]
async fn each_reconcile_of_each_group_is_one_sample_of_the_function() {
    let together = ["a", "b", "a", "b", "a"].map(|group| of(group, failure(at(0, 1))));
    let mut at_once = Publisher::new();
    at_once.record(together.clone());
    let mut one_by_one = Publisher::new();
    let mut samples = Vec::new();
    for sample in together {
        one_by_one.record([sample]);
        samples.extend(one_by_one.publish(at(0, 1)).await);
    }
    for (data, expected) in [
        (at_once.publish(at(0, 1)).await, vec![vec![1.0; 5]]),
        (samples, vec![vec![1.0]; 5]),
    ] {
        let of_function = data.into_iter().filter(|datum| {
            datum.dimensions[0].0 == "FunctionName" && datum.metric == "ReconcileFailure"
        });
        let samples: Vec<_> = of_function.map(|datum| datum.samples).collect();
        assert_eq!(samples, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_published_only_for_the_minutes_in_which_something_happened_to_it() {
    let mut publisher = Publisher::new();
    let unhealthy = Sample {
        is_served: Some(false),
        ..quiet(at(2, 2))
    };
    publisher.record(["a", "b", "c"].map(|group| of(group, quiet(at(0, 1)))));
    publisher.record([of("a", quiet(at(1, 1))), of("b", failover(at(1, 1)))]);
    publisher.record([of("a", failure(at(2, 1))), of("b", unhealthy)]);
    let data = lines(&publisher.publish(at(2, 3)).await);
    let of_groups = data
        .iter()
        .filter(|line| !line.contains("nlb-hostname-target"));
    assert_eq!(
        of_groups.collect::<Vec<_>>(),
        [
            "1:01 b Failover [1.0]",
            "1:01 b ReconcileFailure [0.0]",
            "2:01 a Failover [0.0]",
            "2:01 a ReconcileFailure [1.0]",
            "2:02 b Failover [0.0]",
            "2:02 b ReconcileFailure [0.0]",
            "2:02 b NoHealthyTarget [1.0]",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_samples_of_such_a_minute_go_out_whenever_they_were_taken() {
    let mut publisher = Publisher::new();
    let mut of_group = Vec::new();
    for (sample, now) in [
        (quiet(at(0, 58)), at(0, 59)),
        (quiet(at(1, 1)), at(1, 2)),
        (failover(at(1, 6)), at(1, 7)),
        (quiet(at(1, 11)), at(1, 12)),
        (quiet(at(2, 1)), at(2, 2)),
        (failover(at(3, 1)), at(3, 2)),
    ] {
        publisher.record([sample]);
        let data = lines(&publisher.publish(now).await).into_iter();
        of_group.push(
            data.filter(|line| line.contains(GROUP) && line.contains("Failover"))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(
        of_group,
        [
            vec![],
            vec![],
            vec![format!("1:06 {GROUP} Failover [0.0, 1.0]")],
            vec![format!("1:11 {GROUP} Failover [0.0]")],
            vec![],
            vec![format!("3:01 {GROUP} Failover [1.0]")],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_healthy_target_is_a_sample_only_of_what_was_resolved_and_described() {
    let mut publisher = Publisher::new();
    let healths = [Some(true), None, Some(false), Some(true)];
    publisher.record(healths.map(|is_served| Sample {
        is_served,
        ..quiet(at(0, 1))
    }));
    publisher.record([failure(at(1, 1))]);
    let data = lines(&publisher.publish(at(1, 2)).await);
    let of_health = data.iter().filter(|line| line.contains("NoHealthyTarget"));
    assert_eq!(
        of_health.collect::<Vec<_>>(),
        [
            &format!("0:01 {GROUP} NoHealthyTarget [0.0, 0.0, 1.0]"),
            "0:01 nlb-hostname-target NoHealthyTarget [0.0, 0.0, 1.0]",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn data_older_than_three_hours_are_dropped_with_a_line() {
    let log = Arc::new(tempfile::tempfile().unwrap());
    // If there is only one subscriber, tracing lets the test that logs a line first switch the line off for all tests.
    let _another = Dispatch::new(NoSubscriber::new());
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (begin, mut publisher) = (at(0, 0), Publisher::new());
    for minute in [0, 1, 179] {
        publisher.record([quiet(begin + minute * MINUTE)]);
        publisher.fail(begin + minute * MINUTE).await;
    }
    let data = publisher.publish(begin + 180 * MINUTE + SECOND).await;
    assert_eq!(
        lines(&data)
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect::<Vec<_>>(),
        ["1:00", "1:00", "179:00", "179:00"],
        "both metrics of each"
    );
    let mut text = String::new();
    log.as_ref().seek(SeekFrom::Start(0)).unwrap();
    log.as_ref().read_to_string(&mut text).unwrap();
    let is_told = |line: &&str| line.contains("ERROR") && line.contains("dropped the oldest");
    assert_eq!(text.lines().filter(is_told).count(), 1, "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_beyond_ten_thousand_are_dropped() {
    let (begin, mut publisher) = (at(0, 0), Publisher::new());
    for second in 0..6000 {
        let group = format!("targetgroup/{second}");
        publisher.record([of(&group, failure(begin + second * SECOND))]);
    }
    let data = publisher.publish(begin + 100 * MINUTE).await;
    assert_eq!(data.len(), 10_000);
    let oldest = data.iter().map(|datum| datum.timestamp).min().unwrap();
    // Each minute has the data of 60 groups and of the function, two each. So the last 82 minutes are left.
    let minute = oldest.duration_since(begin).unwrap().as_secs() / 60;
    assert_eq!(minute, 18);
}
