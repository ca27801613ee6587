//! Tests what a dry run says, and what it leaves alone.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use stand_in::dns::Answer;
use stand_in::lambda::{NOTIFICATION, SCHEDULE, Sandbox, TIMEOUT};
use stand_in::world::{ARN, REGISTRATION_LAG, World};
use tokio::time::sleep;

use crate::reading::{UNAVAILABLE, error, log, result, samples};

const DRY_RUN: &str = r#"{"dryRun":true}"#;

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_and_publishes_nothing() {
    let of_topic = r#"{"dryRun":true,"Records":[{"EventSource":"aws:sns"}]}"#;
    for (variable, event) in [
        ("false", DRY_RUN),
        ("false", of_topic),
        ("true", r#"{"dryRun":false}"#),
        ("true", NOTIFICATION),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        world.set("DRY_RUN", variable);
        world.set("SCHEDULE_POLL_SECONDS", 55);
        let answer = world.sandbox().await.invoke(event, TIMEOUT).await;
        assert_eq!(result(&answer)["reconciles"], 1, "whatever the window");
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

#[tokio::test(start_paused = true)]
async fn a_dry_run_reports_errors_and_leaves_unpublished_metrics_alone() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.aws.inject_always("PutMetricData", UNAVAILABLE);
    assert_eq!(error(&sandbox.schedule().await).0, "PublishFailed");
    world.aws.heal();
    world.aws.take_calls();

    world.answer(Answer::NxDomain);
    let answer = sandbox.invoke(DRY_RUN, TIMEOUT).await;
    assert_eq!(error(&answer).0, "ResolveFailed");
    assert_eq!(world.actions(), [""; 0]);

    world.point("10.0.1.7");
    sandbox.schedule().await.outcome.unwrap();
    let samples = samples(&world, "Failover");
    assert_eq!(samples.len(), 2, "two reconciles, without the dry run");
}

/// Returns all lines about the group, as level and message.
fn told(sandbox: &Sandbox) -> Vec<(String, String)> {
    let lines = log(sandbox).into_iter();
    let about_the_group = lines.filter(|line| line["targetGroupArn"] == ARN);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    about_the_group
        .map(|line| (text(&line["level"]), text(&line["message"])))
        .collect()
}

/// Nobody may take a line of a dry run for a change, neither a reader nor the query of the dashboard.
#[tokio::test(start_paused = true)]
async fn each_line_of_a_dry_run_says_that_it_is_one() {
    let line = |level: &str, message: &str| (level.to_owned(), message.to_owned());
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    let mut sandbox = world.sandbox().await;
    sandbox.invoke(DRY_RUN, TIMEOUT).await.outcome.unwrap();
    let would = "dry run: would register 10.0.2.9:6379 and then deregister 10.0.1.7:6379";
    assert_eq!(told(&sandbox), [line("INFO", would)]);

    world.answer(Answer::NxDomain);
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke(DRY_RUN, TIMEOUT).await;
    assert_eq!(error(&answer).0, "ResolveFailed");
    let would = "dry run: the reconcile would fail";
    assert_eq!(told(&sandbox), [line("ERROR", would)]);
}

/// If a change would be held back, and a window would wait for it, a dry run says so and ends at once.
#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_held_back() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.run().await.outcome.unwrap();
    sleep(REGISTRATION_LAG).await;
    world.point("10.0.1.7");
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke(DRY_RUN, TIMEOUT).await;
    assert_eq!(result(&answer)["registered"], json!(["10.0.1.7:6379"]));
    assert!(answer.took < Duration::from_secs(3), "{:?}", answer.took);
    let would = "dry run: would register 10.0.1.7:6379 and then deregister 10.0.2.9:6379, of which some would be \
                 held back: 10.0.1.7:6379 is draining, and DNS names it again; DNS does not name 10.0.2.9:6379, but \
                 no new target takes over from it now";
    assert_eq!(told(&sandbox), [("WARN".to_owned(), would.to_owned())]);
}

/// cargo-lambda sends a deadline of 1970.
#[tokio::test]
async fn a_deadline_that_has_passed_counts_as_the_whole_timeout() {
    let world = World::settled("10.0.1.7").await;
    world.point("10.0.2.9");
    let mut sandbox = world.process().await;
    let in_1970 = UNIX_EPOCH + Duration::from_secs(600);
    for (event, group) in [
        (DRY_RUN, vec!["10.0.1.7:6379 healthy"]),
        (
            SCHEDULE,
            vec!["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"],
        ),
    ] {
        let answer = sandbox.invoke_by(event, in_1970, TIMEOUT).await;
        let result = result(&answer);
        assert_eq!(result["desired"], json!(["10.0.2.9:6379"]));
        assert_eq!(result["reconciles"], 1);
        assert_eq!(world.group(), group);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_that_looked_at_nothing_is_no_success() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    let errors = function.invoke_too_late(DRY_RUN).await.unwrap_err();
    assert_eq!(errors.error_type(), "DeadlineExceeded");
    assert!(errors.to_string().contains(ARN), "{errors}");
    function.invoke(DRY_RUN).await.unwrap();
}
