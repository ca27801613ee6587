//! Tests what the custom resource answers a deployment, and when.

use std::time::Duration;

use serde_json::{Value, json};
use stand_in::aws::{Answer, Fault};
use stand_in::lambda::TIMEOUT;
use stand_in::world::{ARN, ENDPOINT, Function, World, group_arn};
use stand_in::{dns, fleet};
use tokio::join;
use tokio::time::{Instant, sleep};

use crate::invariants::hang;
use crate::reading::{DENIED, error, lines, what_failed};

const STACK: &str = "arn:aws:cloudformation:eu-west-1:123456789012:stack/redis/51af3dc0-da77-11e4";
const URL: &str = "https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com/\
                   arn%3Aaws%3Acloudformation%3Aeu-west-1%3A123456789012%3Astack/redis/51af%7CVerification?\
                   X-Amz-Signature=a%2Bb%3D&X-Amz-Expires=7200";

fn event_to(request_type: &str, url: &str) -> String {
    json!({
        "RequestType": request_type,
        "ResponseURL": url,
        "StackId": STACK,
        "RequestId": "5f8a-1",
        "ResourceType": "Custom::NlbHostnameTarget",
        "LogicalResourceId": "Verification",
        "ResourceProperties": { "ServiceToken": "arn:aws:lambda:…", "Endpoints": ["redis"] },
    })
    .to_string()
}

fn event(request_type: &str) -> String {
    event_to(request_type, URL)
}

/// Returns the only answer that CloudFormation got.
fn answer(world: &World) -> Value {
    let answers = world.aws.take_answers();
    let [Answer { body, .. }] = &answers[..] else {
        panic!("one answer, not {answers:?}")
    };
    assert!(body.len() < 4096, "{} bytes", body.len());
    serde_json::from_slice(body).expect("an answer in JSON")
}

/// Returns the status, the reason and how long the answer took. The invocation ends like any other.
async fn deploy(world: &World, function: &Function) -> (String, String, Duration) {
    let begin = Instant::now();
    let outcome = function.invoke(&event("Create")).await;
    let (took, answer) = (begin.elapsed(), answer(world));
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    let reason = outcome.map_or_else(
        |errors| format!("{}: {errors}", errors.error_type()),
        |_| String::new(),
    );
    assert_eq!(text("Reason"), reason);
    (text("Status"), reason, took)
}

#[tokio::test(start_paused = true)]
async fn create_and_update_make_the_group_right_before_they_succeed() {
    for request_type in ["Create", "Update"] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        // A deployment has no window.
        world.set("SCHEDULE_POLL_SECONDS", "55");
        let function = world.function();
        let report = function.invoke(&event(request_type)).await.unwrap();
        assert!(report.target_groups[0].failover);
        assert_eq!(report.target_groups[0].reconciles, 1);
        assert_eq!(
            world.actions(),
            [
                "DescribeTargetGroups",
                "DescribeTargetHealth",
                "RegisterTargets",
                "DeregisterTargets",
                "PutMetricData",
                "PutObject",
            ]
        );
        assert_eq!(
            answer(&world),
            json!({
                "Status": "SUCCESS",
                "Reason": "",
                "PhysicalResourceId": format!("{STACK}/Verification"),
                "StackId": STACK,
                "RequestId": "5f8a-1",
                "LogicalResourceId": "Verification",
            })
        );
    }
}

#[tokio::test(start_paused = true)]
async fn delete_leaves_the_targets_alone_whatever_is_wrong() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    for endpoint in [ENDPOINT, "not a name"] {
        world.set("ENDPOINTS", endpoint);
        let function = world.function();
        function.invoke(&event("Delete")).await.unwrap();
        assert_eq!(answer(&world)["Status"], "SUCCESS");
        assert_eq!(world.actions(), ["PutObject"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_resource_keeps_the_id_that_cloudformation_knows() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    for request_type in ["Update", "Delete"] {
        let mut request: Value = serde_json::from_str(&event(request_type)).unwrap();
        request["PhysicalResourceId"] = json!("redis-Verification-1ABC");
        function.invoke(&request.to_string()).await.unwrap();
        assert_eq!(
            answer(&world)["PhysicalResourceId"],
            "redis-Verification-1ABC"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_keeps_to_the_pace() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.feed(20);
    world.aws.inject_always("RegisterTargets", DENIED);
    let function = world.function();
    function.invoke(&event("Create")).await.unwrap_err();
    let calls = world.aws.take_calls();
    let describes = calls
        .iter()
        .filter(|call| call.action.starts_with("Describe"));
    assert!(describes.count() <= 20 + 5 * 33);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_fails_the_deployment_with_its_message() {
    let unknown = group_arn(7);
    for (endpoint, arn, expected) in [
        (
            "nowhere.example.com",
            ARN,
            "ResolveFailed: cannot resolve nowhere.example.com:",
        ),
        (
            ENDPOINT,
            &unknown,
            "TargetGroupInvalid: cannot use target group arn:",
        ),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.set("ENDPOINTS", endpoint);
        world.set("TARGET_GROUP_ARNS", arn);
        let (status, reason, _) = deploy(&world, &world.function()).await;
        assert_eq!(status, "FAILED");
        assert!(reason.starts_with(expected), "{reason}");
    }
}

/// Makes a world in which the function makes such calls. It lists only a fleet.
async fn settled(action: &str) -> World {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    if action == "GetResources" {
        fleet::follow(&mut world);
        fleet::tag(&world, ARN, ENDPOINT);
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_name_or_a_permission_that_comes_late_is_waited_for() {
    for action in [
        "DNS",
        "DescribeTargetGroups",
        "RegisterTargets",
        "PutMetricData",
        "GetResources",
    ] {
        let world = settled(action).await;
        world.point("10.0.2.9");
        let function = world.function();
        match action {
            "DNS" => world.answer(dns::Answer::NxDomain),
            action => world.aws.inject_always(action, DENIED),
        }
        let grant = async {
            sleep(Duration::from_secs(15)).await;
            world.point("10.0.2.9");
            world.aws.heal();
        };
        let ((status, _, took), ()) = join!(deploy(&world, &function), grant);
        assert_eq!(status, "SUCCESS", "{action}");
        assert!(took < Duration::from_secs(18), "{took:?}");
        assert_eq!(world.group()[1], "10.0.2.9:6379 initial");
    }
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_fails_the_deployment_in_time() {
    for (action, error_type) in [
        ("DescribeTargetHealth", "DescribeFailed"),
        ("DeregisterTargets", "DeregisterFailed"),
        ("PutMetricData", "PublishFailed"),
        ("GetResources", "DiscoverFailed"),
    ] {
        let world = settled(action).await;
        world.point("10.0.2.9");
        let function = world.function();
        world.aws.inject_always(action, DENIED);
        let (status, reason, took) = deploy(&world, &function).await;
        assert_eq!(status, "FAILED");
        assert!(reason.starts_with(error_type), "{reason}");
        assert!(reason.contains("AccessDenied"), "{reason}");
        let range = Duration::from_secs(20)..Duration::from_secs(45);
        assert!(range.contains(&took), "{action} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_for_another_reason_is_not_tried_again() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    let fault = Fault::Error(400, "ValidationError", "no");
    world.aws.inject_always("DescribeTargetHealth", fault);
    let (status, _, took) = deploy(&world, &function).await;
    assert_eq!(status, "FAILED");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_hangs_cloudformation_is_answered_within_45_s() {
    for action in [
        "DescribeTargetGroups",
        "DescribeTargetHealth",
        "RegisterTargets",
        "DeregisterTargets",
        "PutMetricData",
        "GetResources",
        "DNS",
    ] {
        let world = settled(action).await;
        hang(&world, action);
        let function = world.function();
        let (status, _, took) = deploy(&world, &function).await;
        assert_eq!(status, "FAILED", "{action}");
        assert!(took < Duration::from_secs(45), "{action} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_waited_for_and_its_end_is_no_failure() {
    // DNS is asked every second, and once more after 13.5 s.
    for (ttl, reconciles) in [(5, 15), (60, 1)] {
        let world = World::settled_in_memory("10.0.1.7", ttl).await;
        let function = world.function();
        world.point("10.0.2.9");
        function.invoke("{}").await.unwrap();
        world.point("10.0.1.7");
        let report = function.invoke(&event("Update")).await.unwrap();
        assert_eq!(report.target_groups[0].reconciles, reconciles);
        assert_eq!(answer(&world)["Status"], "SUCCESS");
    }
}

/// The pace allows 20 groups to be described at once, and five more each second.
#[tokio::test(start_paused = true)]
async fn a_group_that_never_had_its_turn_is_no_success() {
    for is_dry_run in ["false", "true"] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.feed(60);
        world.set("DRY_RUN", is_dry_run);
        let mut sandbox = world.sandbox().await;
        let within = Duration::from_secs(12);
        let failed = sandbox.invoke(&event("Create"), within).await;
        assert_eq!(error(&failed).0, "DeadlineExceeded");
        let told = lines(&sandbox, "the invocation ran out of time while waiting");
        assert!(!told.is_empty());
        assert!(
            told.iter().all(|line| line["level"] == "ERROR"),
            "{told:#?}"
        );
        let answer = answer(&world);
        assert_eq!(answer["Status"], "FAILED");
        let reason = answer["Reason"].as_str().unwrap();
        let told = "DeadlineExceeded: the invocation ran out of time while waiting to send a call about arn:";
        assert!(reason.starts_with(told), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_deployment_changes_nothing() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.set("DRY_RUN", "true");
    world.set("SCHEDULE_POLL_SECONDS", "55");
    let function = world.function();
    let (status, ..) = deploy(&world, &function).await;
    assert_eq!(status, "SUCCESS");
    assert_eq!(
        world.actions(),
        ["DescribeTargetGroups", "DescribeTargetHealth", "PutObject"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_arrive_is_tried_again_and_then_told() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    let unavailable = Fault::Error(503, "SlowDown", "later");
    world.aws.inject("PutObject", unavailable);
    world.aws.inject("PutObject", Fault::Reset);
    function.invoke(&event("Create")).await.unwrap();
    assert_eq!(answer(&world)["Status"], "SUCCESS");

    for (fault, cause) in [
        (Fault::Error(403, "AccessDenied", "expired"), "HTTP 403"),
        (Fault::Hang, "timed out"),
    ] {
        world.aws.inject_always("PutObject", fault);
        let begin = Instant::now();
        let errors = function.invoke(&event("Create")).await.unwrap_err();
        assert_eq!(errors.error_type(), "AnswerFailed");
        assert!(errors.to_string().contains(cause), "{errors}");
        assert!(begin.elapsed() < Duration::from_secs(6));
        world.aws.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_time_is_kept_to() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.aws.inject_always("DescribeTargetHealth", Fault::Hang);
    let function = world.function();
    let (begin, timeout) = (Instant::now(), Duration::from_secs(12));
    let outcome = function.invoke_within(&event("Create"), timeout).await;
    assert_eq!(outcome.unwrap_err().error_type(), "DeadlineExceeded");
    assert_eq!(answer(&world)["Status"], "FAILED");
    assert!(begin.elapsed() < timeout);
}

#[tokio::test(start_paused = true)]
async fn the_answer_goes_to_the_letter_of_the_url_and_only_to_cloudformation() {
    let bucket = "cloudformation-custom-resource-response-";
    let china = format!("https://{bucket}cnnorth1.s3.cn-north-1.amazonaws.com.cn/a%20b?c=%2F");
    let europe = format!("https://{bucket}euscdeeast1.s3.eusc-de-east-1.amazonaws.eu/a");
    for (suffix, url) in [
        ("", URL),
        (
            "",
            &format!("https://{bucket}useast1.s3.amazonaws.com/a?b=c"),
        ),
        (
            "amazonaws.com",
            &format!("https://{bucket}useast1.s3.amazonaws.com/a?b=c"),
        ),
        ("amazonaws.com.cn", &china),
        ("amazonaws.eu", &europe),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.set("URL_SUFFIX", suffix);
        let function = world.function();
        function.invoke(&event_to("Delete", url)).await.unwrap();
        let answers = world.aws.take_answers();
        assert_eq!(answers.len(), 1, "{url}");
        assert_eq!(answers[0].url, url);
        assert_eq!(answers[0].content_type, None);
    }
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    for url in [
        china,
        europe,
        format!("http://{bucket}useast1.s3.amazonaws.com/a"),
        format!("https://{bucket}useast1.s3.example.com/a"),
        format!("https://{bucket}useast1.s3.amazonaws.com.example.com/a"),
        format!("https://{bucket}useast1.s3.amazonaws.com@example.com/a"),
        format!("https://{bucket}xamazonaws.com/a"),
        format!("https://x.{bucket}useast1.s3.amazonaws.com/a"),
        "https://example.com/a".to_owned(),
        format!("https://example.com/{bucket}useast1.s3.amazonaws.com"),
        "http://127.0.0.1:4566/a".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "not a url".to_owned(),
        String::new(),
    ] {
        let errors = function
            .invoke(&event_to("Delete", &url))
            .await
            .unwrap_err();
        assert_eq!(errors.error_type(), "AnswerFailed", "{url}");
        assert_eq!(world.aws.take_answers(), [], "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_does_not_keep_the_answer_away() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("URL_SUFFIX", "amazonaws.eu");
    world.set("ENDPOINTS", "not a name");
    let function = world.function();
    let url = URL.replace("amazonaws.com", "amazonaws.eu");
    let errors = function
        .invoke(&event_to("Create", &url))
        .await
        .unwrap_err();
    assert_eq!(errors.error_type(), "InvalidConfig");
    let answer = answer(&world);
    assert_eq!(answer["Status"], "FAILED");
    assert_eq!(answer["Reason"], format!("InvalidConfig: {errors}"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_anywhere_when_nobody_knows_where_it_may_be_put() {
    let told = "URL_SUFFIX is \"com\": expected a domain such as amazonaws.com";
    let reconciled = [
        "DescribeTargetGroups",
        "DescribeTargetHealth",
        "PutMetricData",
    ];
    for (endpoints, request_type, expected, called) in [
        (
            ENDPOINT,
            "Create",
            format!("AnswerFailed: cannot answer CloudFormation: {told}"),
            &reconciled as &[&str],
        ),
        (
            ENDPOINT,
            "Delete",
            format!("AnswerFailed: cannot answer CloudFormation: {told}"),
            &[],
        ),
        (
            "a..b",
            "Update",
            format!(
                "InvalidConfig: ENDPOINTS is \"a..b\": expected comma-separated host names; \
                 cannot answer CloudFormation: {told}"
            ),
            &[],
        ),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.set("ENDPOINTS", endpoints);
        world.set("URL_SUFFIX", "com");
        let function = world.function();
        let event = event_to(request_type, &URL.replace("amazonaws.com", "com"));
        let errors = function.invoke(&event).await.unwrap_err();
        let message = what_failed(&errors.to_string());
        assert_eq!(format!("{}: {message}", errors.error_type()), expected);
        assert_eq!(world.actions(), called);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_reason_is_cut_to_what_cloudformation_takes() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.feed(25);
    let fault = Fault::Error(400, "ValidationError", "no \"such\" \u{1}thing …");
    world.aws.inject_always("DescribeTargetHealth", fault);
    let function = world.function();
    function.invoke(&event("Create")).await.unwrap_err();
    let reason = answer(&world)["Reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("DescribeFailed: ") && reason.ends_with('…'));
}

/// This runs the real binary. To the binary, the URL of a test looks like any other.
#[tokio::test]
async fn the_answer_goes_to_the_address_that_all_calls_go_to() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.sandbox().await;
    sandbox
        .invoke(&event("Create"), TIMEOUT)
        .await
        .outcome
        .unwrap();
    let answers = world.aws.take_answers();
    let (_, path) = URL.split_once(".amazonaws.com").unwrap();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].url.ends_with(path), "{answers:?}");

    let origin = &world.variables["AWS_ENDPOINT_URL"];
    for url in [
        format!("{origin}/answers/1"),
        "http://127.0.0.1:1/answers/1".to_owned(),
    ] {
        let (error_type, _) = error(&sandbox.invoke(&event_to("Create", &url), TIMEOUT).await);
        assert_eq!(error_type, "AnswerFailed", "{url}");
        assert_eq!(world.aws.take_answers(), [], "{url}");
    }
}
