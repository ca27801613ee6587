//! Tests what CloudWatch gets, and what becomes of what it does not take.

use std::time::Duration;

use serde_json::json;
use stand_in::aws::Fault;
use stand_in::dns::{self, Answer};
use stand_in::lambda::Sandbox;
use stand_in::world::{ENDPOINT, OTHER_ENDPOINT, World};

use crate::reading::{DENIED, error, lines, samples};

#[tokio::test(start_paused = true)]
async fn data_that_cloudwatch_calls_invalid_are_dropped_with_a_line() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    let invalid = Fault::Error(400, "InvalidParameterValue", "The parameter is invalid.");
    world.aws.inject("PutMetricData", invalid);
    assert_eq!(error(&sandbox.schedule().await).0, "PublishFailed");
    sandbox.schedule().await.outcome.unwrap();
    let data = world.aws.take_data();
    assert_eq!(data.len(), 3, "those of the second reconcile only");
    let logged = lines(
        &sandbox,
        "cannot publish 3 metric data to NlbHostnameTarget: \
         InvalidParameterValue: The parameter is invalid.",
    );
    assert_eq!((logged.len(), &logged[0]["level"]), (1, &json!("ERROR")));
    assert!(
        logged[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("dropped"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_namespace_is_the_configured_one() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("METRIC_NAMESPACE", "My/Redis");
    world.run().await.outcome.unwrap();
    let data = world.aws.take_data();
    assert!(data.iter().all(|datum| datum.namespace == "My/Redis"));
}

/// Makes 170 invocations fail. Each leaves two data for each of two groups, and two for the function.
async fn with_1020_unpublished_data() -> (World, Sandbox) {
    let world = World::two_in_memory().await;
    let mut sandbox = world.sandbox().await;
    for endpoint in [ENDPOINT, OTHER_ENDPOINT] {
        world.zone.set(endpoint, Answer::NxDomain);
    }
    world.aws.inject_always("PutMetricData", DENIED);
    for _ in 0..170 {
        assert_eq!(error(&sandbox.schedule().await).0, "ResolveFailed");
    }
    world.aws.heal();
    world.aws.take_calls();
    (world, sandbox)
}

#[tokio::test(start_paused = true)]
async fn a_large_publication_is_compressed_and_split_into_calls_of_1000() {
    let (world, mut sandbox) = with_1020_unpublished_data().await;
    assert_eq!(error(&sandbox.schedule().await).0, "ResolveFailed");
    let published = world.aws.take_calls();
    let sizes: Vec<_> = published
        .iter()
        .filter(|call| !call.data.is_empty())
        .map(|call| call.data.len())
        .collect();
    assert_eq!(sizes, [1000, 26], "those of one more invocation");
}

#[tokio::test(start_paused = true)]
async fn data_dropped_in_one_call_are_told_also_when_the_next_failed_otherwise() {
    let (world, mut sandbox) = with_1020_unpublished_data().await;
    world.point("10.0.2.9");
    let late = Answer::Late(
        Duration::from_millis(300),
        Box::new(dns::addresses(["10.0.3.3"])),
    );
    world.zone.set(OTHER_ENDPOINT, late);
    let invalid = Fault::Error(400, "InvalidParameterValue", "The parameter is invalid.");
    world.aws.inject("PutMetricData", invalid);
    world.aws.inject("PutMetricData", DENIED);
    assert_eq!(
        error(&sandbox.schedule().await),
        (
            "PublishFailed".to_owned(),
            "cannot publish 1000 metric data to NlbHostnameTarget: \
             InvalidParameterValue: The parameter is invalid."
                .to_owned()
        )
    );
    let failovers = samples(&world, "Failover");
    assert!(failovers.contains(&1.0), "the rest went out at the end");
}
