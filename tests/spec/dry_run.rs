//! What a dry run tells, and what it leaves alone.

use serde_json::json;
use stand_in::aws::Fault;
use stand_in::dns::Answer;
use stand_in::lambda::TIMEOUT;
use stand_in::world::World;

use crate::reading::{error, result};

const UNAVAILABLE: Fault = Fault::Error(503, "ServiceUnavailable", "try later");

#[tokio::test]
async fn a_dry_run_changes_and_publishes_nothing() {
    for in_event in [true, false] {
        let mut world = World::settled("10.0.1.7").await;
        world.point("10.0.2.9");
        if !in_event {
            world.set("DRY_RUN", "true");
        }
        let event = if in_event {
            r#"{"dryRun":true}"#
        } else {
            r#"{"dryRun":false}"#
        };
        let answer = world.sandbox().await.invoke(event, TIMEOUT).await;
        assert_eq!(answer.outcome.as_ref().unwrap()["dryRun"], true);
        assert_eq!(result(&answer)["registered"], json!(["10.0.2.9:6379"]));
        assert_eq!(result(&answer)["deregistered"], json!(["10.0.1.7:6379"]));
        assert_eq!(result(&answer)["failover"], true);
        assert_eq!(
            world.actions(),
            ["DescribeTargetGroups", "DescribeTargetHealth"]
        );
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
    }
}

#[tokio::test]
async fn a_dry_run_reports_errors_and_leaves_unpublished_metrics_alone() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    world.aws.inject_always("PutMetricData", UNAVAILABLE);
    assert_eq!(error(&sandbox.schedule().await).0, "PublishFailed");
    world.aws.heal();
    world.aws.take_calls();

    world.answer(Answer::NxDomain);
    let answer = sandbox.invoke(r#"{"dryRun":true}"#, TIMEOUT).await;
    assert_eq!(error(&answer).0, "ResolveFailed");
    assert_eq!(world.actions(), ["DescribeTargetHealth"]);

    world.point("10.0.1.7");
    sandbox.schedule().await.outcome.unwrap();
    let data = world.aws.take_data().into_iter();
    let samples = data
        .filter(|datum| datum.metric == "Failover")
        .flat_map(|datum| datum.samples);
    assert_eq!(samples.count(), 2, "two reconciles, without the dry run");
}
