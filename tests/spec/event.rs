//! Any JSON causes a reconcile; `dryRun` and the source of the first record are all that is read.

use std::time::Duration;

use nlb_hostname_target::event::{Cause, Event};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stand_in::dns::Answer;
use stand_in::lambda::{DIAGNOSE, NOTIFICATION, QUEUE, SCHEDULE, TIMEOUT};
use stand_in::world::World;
use tokio::join;
use tokio::time::sleep;

use crate::reading::{lines, result, samples};

fn is_dry_run(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).is_dry_run
}

fn is_notification(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).cause == Cause::Notification
}

fn is_of_the_queue(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).cause == Cause::Queue
}

fn is_diagnosis(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).cause == Cause::Diagnose
}

fn is_deployment(json: &str) -> bool {
    let cause = Event::read(&RawValue::from_string(json.to_owned()).unwrap()).cause;
    matches!(cause, Cause::Deployment(_))
}

#[test]
fn a_request_of_cloudformation_is_what_says_what_to_do_and_where_to_answer() {
    for json in [
        r#"{"RequestType":"Create","ResponseURL":"https://example.com"}"#,
        r#"{"RequestType":"Create","ResponseURL":"","Records":[{"EventSource":"aws:sns"}]}"#,
        // Nothing around the two hides them: CloudFormation waits for the answer.
        r#"{"RequestType":7,"RequestType":"Update","ResponseURL":""}"#,
        r#"{"StackId":"a","StackId":"b","RequestType":"Update","ResponseURL":""}"#,
        r#"{"StackId":7,"PhysicalResourceId":[],"RequestType":"Delete","ResponseURL":""}"#,
        r#"{"\ud800":1,"RequestType":"Delete","ResponseURL":""}"#,
    ] {
        assert!(is_deployment(json), "{json}");
    }
    for json in [
        r#"{"RequestType":"Create"}"#,
        r#"{"ResponseURL":""}"#,
        r#"{"RequestType":"create","ResponseURL":""}"#,
        r#"{"RequestType":"Create","RequestType":7,"ResponseURL":""}"#,
        r#"{"RequestType":{"Create":null},"ResponseURL":""}"#,
        r#"["Create",""]"#,
    ] {
        assert!(!is_deployment(json), "{json}");
    }
}

#[test]
fn a_notification_is_what_a_topic_sends() {
    let deep = format!(
        r#"{{"Records":[{{"a":{}1{},"EventSource":"aws:sns"}}]}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for json in [
        include_str!("../../events/notification.json"),
        r#"{"Records":[{"EventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":"aws:\u0073ns"},{"EventSource":"aws:s3"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sns","Sns":7},7]}"#,
        &deep,
    ] {
        assert!(is_notification(json), "{json:.60}");
    }
}

#[test]
fn a_notification_is_also_an_event_of_a_service_and_an_alarm() {
    for json in [
        r#"{"detail-type":"RDS DB Cluster Event","source":"aws.rds","detail":{}}"#,
        r#"{"detail-type":"RDS DB Instance Event"}"#,
        r#"{"detail-type":"my own"}"#,
        r#"{"detail-type":""}"#,
        r#"{"detail-type":"scheduled event"}"#,
        r#"{"alarmArn":"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:x","alarmData":{}}"#,
        r#"{"detail-type":"Scheduled Event","alarmArn":"x"}"#,
    ] {
        assert!(is_notification(json), "{json}");
    }
    for json in [
        r#"{"detail-type":"Scheduled Event","source":"aws.scheduler","detail":"{}"}"#,
        r#"{"detail-type":null}"#,
        r#"{"detail-type":["RDS DB Cluster Event"]}"#,
        r#"{"alarmArn":true}"#,
        r#"{"alarmArn":null}"#,
        r#"{"detail":{"detail-type":"RDS DB Cluster Event"}}"#,
    ] {
        assert!(!is_notification(json), "{json}");
    }
    let queued = r#"{"Records":[{"eventSource":"aws:sqs"}],"detail-type":"x","alarmArn":"y"}"#;
    assert!(is_of_the_queue(queued));
}

#[test]
fn a_message_of_the_queue_is_what_its_source_says() {
    let ten = r#"{"eventSource":"aws:sqs","body":"{}"},"#.repeat(9);
    let ten = format!(r#"{{"Records":[{ten}{{"eventSource":"aws:sqs"}}]}}"#);
    for json in [
        QUEUE,
        r#"{"Records":[{"eventSource":"aws:sqs"}]}"#,
        // Whatever is in it: somebody may send to the queue what is no notification.
        r#"{"Records":[{"eventSource":"aws:sqs","body":"hello"}]}"#,
        r#"{"Records":[{"eventSource":"aws:sqs","EventSource":"aws:sns"}]}"#,
        &ten,
    ] {
        assert!(is_of_the_queue(json), "{json:.60}");
    }
    for json in [
        NOTIFICATION,
        r#"{"Records":[]}"#,
        r#"{"Records":[{"EventSource":"aws:sqs"}]}"#,
        r#"{"Records":[{"eventSource":["aws:sqs"]}]}"#,
        r#"{"eventSource":"aws:sqs"}"#,
    ] {
        assert!(!is_of_the_queue(json), "{json:.60}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_causes_is_a_window_and_no_error() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    let report = serde_json::to_value(function.invoke(QUEUE).await.unwrap()).unwrap();
    assert_eq!(report["targetGroups"][0]["reconciles"], 51);
    assert_eq!(report["batchItemFailures"], json!([]));
    assert_eq!(report["errorType"], Value::Null);

    world.answer(Answer::NxDomain);
    let report = serde_json::to_value(function.invoke(QUEUE).await.unwrap()).unwrap();
    assert_eq!(
        report["batchItemFailures"],
        json!([]),
        "nothing is delivered again"
    );
    assert_eq!(report["errorType"], "ResolveFailed");
    assert_eq!(report["targetGroups"][0]["errorType"], "ResolveFailed");
    let message = report["errorMessage"].as_str().unwrap();
    assert!(
        message.starts_with("cannot resolve redis.example.com"),
        "{message}"
    );
    let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
    assert_eq!(failures, 51.0, "each is counted");
    function.schedule().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_causes_beside_a_window_of_the_schedule_fails_over_once() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let functions = [world.function(), world.function(), world.function()];
    world.aws.limit(0.0);
    let [schedule, queue, another] = &functions;
    let fail_over = async {
        sleep(Duration::from_millis(20_300)).await;
        world.point("10.0.2.9");
        another.invoke(QUEUE).await
    };
    let outcomes = join!(schedule.schedule(), queue.invoke(QUEUE), fail_over);
    let reports = [
        outcomes.0.unwrap(),
        outcomes.1.unwrap(),
        outcomes.2.unwrap(),
    ];
    let groups = reports.iter().map(|report| &report.target_groups[0]);
    let deregistered = groups.filter(|group| !group.deregistered.is_empty());
    assert!(deregistered.count() >= 1);
    assert_eq!(world.group()[1], "10.0.2.9:6379 initial");
    assert!(!world.group()[0].ends_with("healthy"));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_is_what_the_queue_is_told_too() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("DRY_RUN", "maybe");
    let report = serde_json::to_value(world.function().invoke(QUEUE).await.unwrap()).unwrap();
    assert_eq!(report["errorType"], "InvalidConfig");
    assert_eq!(report["targetGroups"], json!([]));
}

#[test]
fn anything_else_is_no_notification() {
    for json in [
        "{}",
        "null",
        r#""aws:sns""#,
        r#"{"EventSource":"aws:sns"}"#,
        r#"{"Records":[]}"#,
        r#"{"Records":null}"#,
        r#"{"Records":{"0":{"EventSource":"aws:sns"}}}"#,
        r#"{"Records":[["EventSource","aws:sns"]]}"#,
        r#"{"Records":[{"EventSource":"aws:s3"},{"EventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":["aws:sns"]}]}"#,
        r#"{"Records":[{"eventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sqs"}]}"#,
        include_str!("../../events/schedule.json"),
        include_str!("../../events/dry-run.json"),
    ] {
        assert!(!is_notification(json), "{json:.60}");
    }
}

#[test]
fn a_dry_run_is_asked_for_by_anything_but_false_and_null() {
    for value in ["true", "1", "0", r#""false""#, r#""""#, "[]", "{}"] {
        assert!(is_dry_run(&format!(r#"{{"dryRun":{value}}}"#)), "{value}");
        assert!(
            is_dry_run(&format!("{{ \"detail\": {{}}, \"dryRun\" : {value} }}")),
            "{value}"
        );
    }
    for value in ["false", "null", " false ", " null "] {
        assert!(!is_dry_run(&format!(r#"{{"dryRun":{value}}}"#)), "{value}");
    }
}

/// The parameter is `DryRun`, and the variable `DRY_RUN`.
#[test]
fn a_dry_run_is_asked_for_in_every_spelling() {
    for name in [
        "DryRun", "dryrun", "DRYRUN", "DRY_RUN", "dry_run", "Dry_Run", "dRYrUN",
    ] {
        assert!(is_dry_run(&format!(r#"{{"{name}":true}}"#)), "{name}");
        assert!(!is_dry_run(&format!(r#"{{"{name}":false}}"#)), "{name}");
        assert!(!is_dry_run(&format!(r#"{{"{name}":null}}"#)), "{name}");
    }
    // Who asks for it in any of them wants it.
    assert!(is_dry_run(r#"{"dryRun":false,"DRY_RUN":true}"#));
    assert!(is_dry_run(r#"{"DryRun":true,"dryRun":false}"#));
    for name in ["dry", "dryRuns", "dry run", "dry-run", "adryrun"] {
        assert!(!is_dry_run(&format!(r#"{{"{name}":true}}"#)), "{name}");
    }
}

#[test]
fn any_other_json_is_no_dry_run() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let events = [
        "{}",
        "null",
        "[]",
        "7",
        r#""dryRun""#,
        r#"["dryRun"]"#,
        r#"{"detail":"{}"}"#,
        &deep,
    ];
    for json in events
        .into_iter()
        .chain([include_str!("../../events/schedule.json")])
    {
        assert!(!is_dry_run(json), "{json:.40}");
    }
}

#[test]
fn what_surrounds_the_field_does_not_hide_it() {
    let deep = format!(
        r#"{{"a":{}1{},"dryRun":true}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let events = [
        deep.as_str(),
        r#"{"\ud800":1,"dryRun":true}"#,
        r#"{"a":"\ud800","dryRun":true}"#,
        r#"{"dryRu\u006e":true}"#,
    ];
    for json in events {
        assert!(is_dry_run(json), "{json:.40}");
    }
}

#[test]
fn the_last_of_two_counts() {
    assert!(is_dry_run(r#"{"dryRun":false,"dryRun":true}"#));
    assert!(!is_dry_run(r#"{"dryRun":true,"dryRun":false}"#));
}

#[test]
fn the_events_of_the_repository_are_what_they_are_named() {
    assert!(is_dry_run(include_str!("../../events/dry-run.json")));
    assert!(!is_dry_run(include_str!("../../events/empty.json")));
    assert!(!is_dry_run(include_str!("../../events/notification.json")));
    assert!(is_diagnosis(DIAGNOSE));
}

#[test]
fn a_diagnosis_comes_after_cloudformation_and_before_everything_else() {
    for json in [
        r#"{"diagnose":"no"}"#,
        r#"{"diagnose":0,"dryRun":true}"#,
        r#"{"diagnose":true,"Records":[{"eventSource":"aws:sqs"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sns"}],"diagnose":true}"#,
    ] {
        assert!(is_diagnosis(json), "{json}");
    }
    for json in [
        "{}",
        r#"{"diagnose":null}"#,
        r#"{"diagnose":false}"#,
        r#"{"detail":{"diagnose":true}}"#,
        r#"{"diagnose":true,"RequestType":"Create","ResponseURL":"https://example.com"}"#,
    ] {
        assert!(!is_diagnosis(json), "{json}");
    }
}

/// A notification's window has two reconciles here, and asks Elastic Load Balancing once.
#[tokio::test]
async fn each_kind_of_event_is_told_from_the_others() {
    let mut world = World::settled("10.0.1.7").await;
    world.set("EVENT_POLL_SECONDS", "1");
    let settled = ["DescribeTargetHealth", "PutMetricData"];
    let mut sandbox = world.warm_sandbox().await;
    for (event, cause, reconciles) in [
        (SCHEDULE, "schedule", 1),
        (QUEUE, "queue", 2),
        (NOTIFICATION, "notification", 2),
        (include_str!("../../events/rds.json"), "notification", 2),
        (include_str!("../../events/alarm.json"), "notification", 2),
    ] {
        let answer = sandbox.invoke(event, TIMEOUT).await;
        assert_eq!(result(&answer)["reconciles"], reconciles, "{event}");
        assert_eq!(world.actions(), settled, "{event}");
        let told = lines(&sandbox, "result");
        assert_eq!(told.last().unwrap()["cause"], cause, "{event}");
        let is_batch = answer.outcome.unwrap().get("batchItemFailures").is_some();
        assert_eq!(is_batch, cause == "queue", "{event}");
    }

    let event = include_str!("../../events/dry-run.json");
    let answer = sandbox.invoke(event, TIMEOUT).await.outcome.unwrap();
    assert_eq!(answer["dryRun"], true);
    assert_eq!(world.actions(), ["DescribeTargetHealth"]);

    // What is invalid is found at once.
    world.set("TARGET_PORT", "http");
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke(DIAGNOSE, TIMEOUT).await.outcome.unwrap();
    assert_eq!(answer["findings"][0]["id"], "config-invalid");
    assert_eq!(lines(&sandbox, "diagnosed")[0]["cause"], "diagnose");
}

#[tokio::test]
async fn any_event_causes_a_reconcile() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for event in [
        "{}",
        "null",
        "7",
        r#"{"detail":"{}"}"#,
        r#"{"dryRun":null}"#,
        &deep,
        r#"{"Records":[{"EventSource":"aws:s3"}]}"#,
    ] {
        let answer = sandbox.invoke(event, TIMEOUT).await;
        assert_eq!(result(&answer)["reconciles"], 1, "{event:.40}");
        assert_eq!(world.actions(), ["DescribeTargetHealth", "PutMetricData"]);
    }
}
