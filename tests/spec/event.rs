//! Any JSON causes a reconcile; `dryRun` and the source of the first record are all that is read.

use nlb_hostname_target::event::{Cause, Event};
use serde_json::value::RawValue;
use stand_in::lambda::TIMEOUT;
use stand_in::world::World;

use crate::reading::result;

fn is_dry_run(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).is_dry_run
}

fn is_notification(json: &str) -> bool {
    Event::read(&RawValue::from_string(json.to_owned()).unwrap()).cause == Cause::Notification
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
        r#"{"dryrun":true}"#,
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
