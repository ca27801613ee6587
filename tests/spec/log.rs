//! Tests what the log says.

use serde_json::json;
use stand_in::dns::Answer;
use stand_in::world::{ARN, World};

use crate::reading::{DENIED, THROTTLED, error, lines, log, what_failed};

#[tokio::test]
async fn the_log_has_a_line_before_each_change_one_per_reconcile_and_one_result() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    let answer = sandbox.schedule().await;
    let lines = log(&sandbox);
    let of_failover = &lines[lines.len() - 4..];
    let messages: Vec<_> = of_failover
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "registering 10.0.2.9:6379: new connections reach them once the load balancer finds them healthy",
            "deregistering 10.0.1.7:6379: their connections end when the deregistration delay is over",
            "reconciled",
            "result"
        ]
    );
    assert_eq!(of_failover[0]["targets"], json!(["10.0.2.9:6379"]));
    assert_eq!(of_failover[1]["targets"], json!(["10.0.1.7:6379"]));
    for change in &of_failover[..2] {
        assert_eq!(change["current"], json!({"10.0.1.7:6379": "healthy"}));
    }
    assert_eq!(of_failover[2]["deregistered"], json!(["10.0.1.7:6379"]));
    assert_eq!(
        of_failover[3]["targetGroups"],
        answer.outcome.unwrap()["targetGroups"]
    );
    assert!(of_failover.iter().all(|line| line["level"] == "INFO"
        && line["requestId"].is_string()
        && line["cause"] == "schedule"));
    assert!(of_failover.iter().all(|line| line["timestamp"].is_string()));
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_only_registers_or_only_deregisters_has_its_line_too() {
    let fills = World::empty_in_memory();
    fills.point("10.0.1.7");
    let removes = World::settled_in_memory("10.0.1.7", 5).await;
    removes.aws.settle(ARN, "10.0.2.9", 6379);
    for (world, changed) in [(fills, "registered"), (removes, "deregistered")] {
        let mut sandbox = world.sandbox().await;
        sandbox.schedule().await.outcome.unwrap();
        let reconciled = lines(&sandbox, "reconciled");
        assert_eq!(reconciled.len(), 1, "{changed}");
        assert_eq!(reconciled[0][changed].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_result_lists_the_first_100_groups_with_something_to_tell_and_counts_the_others() {
    let mut world = World::empty_in_memory();
    world.feed(103);
    world.answer(Answer::NxDomain);
    let mut sandbox = world.sandbox().await;
    sandbox.schedule().await.outcome.unwrap_err();
    let result = &lines(&sandbox, "result")[0];
    assert_eq!(result["targetGroups"].as_array().unwrap().len(), 100);
    assert_eq!(result["otherTargetGroups"], 3);

    let world = World::two_in_memory().await;
    let mut sandbox = world.sandbox().await;
    sandbox.schedule().await.outcome.unwrap();
    let result = &lines(&sandbox, "result")[0];
    let groups = result["targetGroups"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "the other group was where its name is");
    assert_eq!(result["otherTargetGroups"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_groups_result_is_logged_with_type_and_message() {
    let world = World::two_in_memory().await;
    world.answer(Answer::NxDomain);
    let mut sandbox = world.sandbox().await;
    let (error_type, message) = error(&sandbox.schedule().await);
    let groups = &lines(&sandbox, "result")[0]["targetGroups"];
    assert_eq!(
        (
            &groups[0]["errorType"],
            what_failed(groups[0]["errorMessage"].as_str().unwrap())
        ),
        (&json!(error_type), message)
    );
    assert_eq!(groups[0]["desired"], json!([]));
    assert_eq!(groups[1].get("errorType"), None);
    assert_eq!(groups[1]["registered"], json!(["10.0.3.3:6380"]));
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_is_told_also_when_the_group_could_not_be_described() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.aws.inject_always("DescribeTargetHealth", DENIED);
    let mut sandbox = world.sandbox().await;
    assert_eq!(error(&sandbox.schedule().await).0, "DescribeFailed");
    let group = &lines(&sandbox, "result")[0]["targetGroups"][0];
    assert_eq!(group["desired"], json!(["10.0.1.7:6379"]));
}

#[tokio::test]
async fn lambdas_log_level_is_kept_to() {
    let mut world = World::settled("10.0.1.7").await;
    for (level, messages) in [
        ("DEBUG", &["reconciled", "result"][..]),
        ("INFO", &["result"]),
        ("WARN", &[]),
        ("FATAL", &[]),
        ("none of them", &["result"]),
    ] {
        world.set("AWS_LAMBDA_LOG_LEVEL", level);
        let mut sandbox = world.warm_sandbox().await;
        let logged = log(&sandbox).into_iter();
        let logged: Vec<_> = logged.map(|line| line["message"].clone()).collect();
        assert_eq!(logged, messages, "{level}");
        world.answer(Answer::NxDomain);
        sandbox.schedule().await.outcome.unwrap_err();
        assert_eq!(lines(&sandbox, "reconcile failed").len(), 1, "{level}");
        world.point("10.0.1.7");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_refused_for_long_is_told_once() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.aws.inject_always("RegisterTargets", THROTTLED);
    let mut sandbox = world.sandbox().await;
    assert_eq!(error(&sandbox.schedule().await).0, "RegisterFailed");
    assert_eq!(lines(&sandbox, "registering").len(), 1);
}
