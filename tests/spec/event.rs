//! Any JSON causes a reconcile. Only `dryRun` and the fields that say what caused the invocation are read.

use nlb_hostname_target::event::{Cause, Event};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stand_in::dns::Answer;
use stand_in::lambda::{DIAGNOSE, NOTIFICATION, QUEUE, SCHEDULE, TIMEOUT};
use stand_in::world::World;

use crate::reading::{lines, result, samples};

fn event(json: &str) -> Event {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap())
}

fn assert_causes<'a>(cause: &str, events: impl IntoIterator<Item = &'a str>) {
    for json in events {
        let is = match event(json).cause {
            Cause::Deployment(_) => "deployment",
            Cause::Diagnose => "diagnosis",
            Cause::Queue => "queue",
            Cause::Notification => "notification",
            Cause::Schedule => "schedule",
        };
        assert_eq!(is, cause, "{json:.60}");
    }
}

fn assert_dry_run<'a>(is_dry_run: bool, events: impl IntoIterator<Item = &'a str>) {
    for json in events {
        assert_eq!(event(json).is_dry_run, is_dry_run, "{json:.60}");
    }
}

/// Returns a number inside 10,000 arrays.
fn deep() -> String {
    format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000))
}

#[test]
fn a_request_of_cloudformation_is_what_says_what_to_do_and_where_to_answer() {
    let events = [
        r#"{"RequestType":"Create","ResponseURL":"https://example.com"}"#,
        r#"{"RequestType":"Create","ResponseURL":"","Records":[{"EventSource":"aws:sns"}]}"#,
        r#"{"RequestType":"Create","ResponseURL":"","diagnose":true}"#,
        // Nothing around the two fields hides them, because CloudFormation waits for the answer.
        r#"{"RequestType":7,"RequestType":"Update","ResponseURL":""}"#,
        r#"{"StackId":"a","StackId":"b","RequestType":"Update","ResponseURL":""}"#,
        r#"{"StackId":7,"PhysicalResourceId":[],"RequestType":"Delete","ResponseURL":""}"#,
        r#"{"\ud800":1,"RequestType":"Delete","ResponseURL":""}"#,
    ];
    assert_causes("deployment", events);
}

#[test]
fn a_diagnosis_comes_before_everything_but_cloudformation() {
    let events = [
        DIAGNOSE,
        r#"{"diagnose":"no"}"#,
        r#"{"diagnose":0,"dryRun":true}"#,
        r#"{"diagnose":true,"Records":[{"eventSource":"aws:sqs"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sns"}],"diagnose":true}"#,
    ];
    assert_causes("diagnosis", events);
}

#[test]
fn a_message_of_the_queue_is_what_its_source_says() {
    let ten = r#"{"eventSource":"aws:sqs","body":"{}"},"#.repeat(9);
    let ten = format!(r#"{{"Records":[{ten}{{"eventSource":"aws:sqs"}}]}}"#);
    let events = [
        QUEUE,
        r#"{"Records":[{"eventSource":"aws:sqs"}]}"#,
        // The body does not matter, because somebody may send something to the queue that is not a notification.
        r#"{"Records":[{"eventSource":"aws:sqs","body":"hello"}]}"#,
        r#"{"Records":[{"eventSource":"aws:sqs","EventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"eventSource":"aws:sqs"}],"detail-type":"x","alarmArn":"y"}"#,
        &ten,
    ];
    assert_causes("queue", events);
}

#[test]
fn a_notification_is_of_a_topic_of_a_service_or_of_an_alarm() {
    let deep = deep();
    let deep = format!(r#"{{"Records":[{{"a":{deep},"EventSource":"aws:sns"}}]}}"#);
    let events = [
        NOTIFICATION,
        r#"{"Records":[{"EventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":"aws:\u0073ns"},{"EventSource":"aws:s3"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sns","Sns":7},7]}"#,
        &deep,
        r#"{"detail-type":"RDS DB Cluster Event","source":"aws.rds","detail":{}}"#,
        r#"{"detail-type":"RDS DB Instance Event"}"#,
        r#"{"detail-type":"my own"}"#,
        r#"{"detail-type":""}"#,
        r#"{"detail-type":"scheduled event"}"#,
        r#"{"alarmArn":"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:x","alarmData":{}}"#,
        r#"{"detail-type":"Scheduled Event","alarmArn":"x"}"#,
    ];
    assert_causes("notification", events);
}

#[test]
fn anything_else_is_as_if_the_schedule_had_caused_it() {
    let events = [
        SCHEDULE,
        include_str!("../../events/dry-run.json"),
        "{}",
        "null",
        r#""aws:sns""#,
        r#"{"EventSource":"aws:sns"}"#,
        r#"{"eventSource":"aws:sqs"}"#,
        r#"{"Records":[]}"#,
        r#"{"Records":null}"#,
        r#"{"Records":{"0":{"EventSource":"aws:sns"}}}"#,
        r#"{"Records":[["EventSource","aws:sns"]]}"#,
        r#"{"Records":[{"EventSource":"aws:s3"},{"EventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":["aws:sns"]}]}"#,
        r#"{"Records":[{"eventSource":["aws:sqs"]}]}"#,
        r#"{"Records":[{"eventSource":"aws:sns"}]}"#,
        r#"{"Records":[{"EventSource":"aws:sqs"}]}"#,
        r#"{"detail-type":"Scheduled Event","source":"aws.scheduler","detail":"{}"}"#,
        r#"{"detail-type":null}"#,
        r#"{"detail-type":["RDS DB Cluster Event"]}"#,
        r#"{"alarmArn":true}"#,
        r#"{"alarmArn":null}"#,
        r#"{"detail":{"detail-type":"RDS DB Cluster Event"}}"#,
        r#"{"diagnose":null}"#,
        r#"{"diagnose":false}"#,
        r#"{"detail":{"diagnose":true}}"#,
        r#"{"RequestType":"Create"}"#,
        r#"{"ResponseURL":""}"#,
        r#"{"RequestType":"create","ResponseURL":""}"#,
        r#"{"RequestType":"Create","RequestType":7,"ResponseURL":""}"#,
        r#"{"RequestType":{"Create":null},"ResponseURL":""}"#,
        r#"["Create",""]"#,
    ];
    assert_causes("schedule", events);
}

/// The parameter is `DryRun`, and the variable `DRY_RUN`.
#[test]
fn a_dry_run_is_asked_for_in_every_spelling_by_anything_but_false_and_null() {
    for name in "dryRun DryRun dryrun DRYRUN DRY_RUN dry_run Dry_Run dRYrUN".split(' ') {
        for value in ["true", "1", "0", r#""false""#, r#""""#, "[]", "{}"] {
            let field = format!(r#""{name}" : {value}"#);
            let events = [
                format!("{{{field}}}"),
                format!(r#"{{ "detail": {{}}, {field} }}"#),
            ];
            assert_dry_run(true, events.iter().map(String::as_str));
        }
        for value in ["false", "null", " false ", " null "] {
            assert_dry_run(false, [&*format!(r#"{{"{name}":{value}}}"#)]);
        }
    }
    let deep = format!(r#"{{"a":{},"dryRun":true}}"#, deep());
    let events = [
        include_str!("../../events/dry-run.json"),
        // A dry run is meant if any spelling asks for it. If one spelling comes twice, the last one counts.
        r#"{"dryRun":false,"DRY_RUN":true}"#,
        r#"{"DryRun":true,"dryRun":false}"#,
        r#"{"dryRun":false,"dryRun":true}"#,
        // What surrounds the field does not hide it.
        &deep,
        r#"{"\ud800":1,"dryRun":true}"#,
        r#"{"a":"\ud800","dryRun":true}"#,
        r#"{"dryRu\u006e":true}"#,
    ];
    assert_dry_run(true, events);
}

#[test]
fn any_other_json_is_no_dry_run() {
    for name in ["dry", "dryRuns", "dry run", "dry-run", "adryrun"] {
        assert_dry_run(false, [&*format!(r#"{{"{name}":true}}"#)]);
    }
    let events = [
        SCHEDULE,
        NOTIFICATION,
        include_str!("../../events/empty.json"),
        "null",
        "[]",
        "7",
        r#""dryRun""#,
        r#"["dryRun"]"#,
        r#"{"detail":"{}"}"#,
        r#"{"dryRun":true,"dryRun":false}"#,
        &deep(),
    ];
    assert_dry_run(false, events);
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
async fn an_invalid_configuration_is_what_the_queue_is_told_too() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("DRY_RUN", "maybe");
    let report = serde_json::to_value(world.function().invoke(QUEUE).await.unwrap()).unwrap();
    assert_eq!(report["errorType"], "InvalidConfig");
    assert_eq!(report["targetGroups"], json!([]));
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

    // An invalid setting is found at once.
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
