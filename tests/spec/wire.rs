//! Tests what AWS sends, byte by byte. The files in `wire` have the shapes of recordings and specifications of others.
//! The ids, names and addresses are our own. Each line below says where a shape comes from.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use nlb_hostname_target::event::{Cause, Event};
use serde_json::Value;
use serde_json::value::RawValue;
use stand_in::aws::{Aws, Fault, Reply};
use stand_in::elb::TargetGroup;
use stand_in::http::{Request, Response};
use stand_in::world::{ARN, Function, World};
use tokio::time::{Instant, sleep};

use crate::reading::{first, what_failed};

/// The responses to `RegisterTargets` and `DeregisterTargets` in the tests of ex_aws_elastic_load_balancing
/// (`parser_test.exs`). They have no declaration, but line feeds, indents of two spaces, and an empty result that
/// closes itself. The logs of the AWS Load Balancer Controller and of boto3 give their lengths: 253 and 259 bytes.
const REGISTER: &[u8] = include_bytes!("wire/elb-register.xml");
const DEREGISTER: &[u8] = include_bytes!("wire/elb-deregister.xml");
/// The output of `aws elbv2 describe-target-health` as many tutorials have printed it since 2025, with
/// `AdministrativeOverride`, in the form of the example in the API reference.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html>
const HEALTH: &[u8] = include_bytes!("wire/elb-health.xml");
const HEALTH_EMPTY: &[u8] = include_bytes!("wire/elb-health-empty.xml");
/// A `Throttling` error of type `Sender`, in 271 bytes of `text/xml`:
/// <https://github.com/ansible-collections/community.aws/pull/977>
const ELB_THROTTLING: &[u8] = include_bytes!("wire/elb-throttling.xml");
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>
const ELB_ACCESS_DENIED: &[u8] = include_bytes!("wire/elb-access-denied.xml");
const ELB_INTERNAL_FAILURE: &[u8] = include_bytes!("wire/elb-internal-failure.xml");

/// The operation has no output. Its response has no body, or the empty map that the protocol's tests allow
/// (`NoOutputClientAllowsEmptyCbor`, `NoOutputClientAllowsEmptyBody`).
/// <https://github.com/smithy-lang/smithy/blob/main/smithy-protocol-tests/model/rpcv2Cbor/empty-input-output.smithy>
const CLOUDWATCH_SUCCESS: &[u8] = include_bytes!("wire/cloudwatch-success.cbor");
const CLOUDWATCH_SUCCESS_MAP: &[u8] = include_bytes!("wire/cloudwatch-success-map.cbor");
/// The namespace of CloudWatch's own shapes is the one of its first client, mon-put-instance-data.pl. The header is
/// the protocol's: <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#aws-protocols-awsquerycompatible-trait>
const CLOUDWATCH_INVALID: &[u8] = include_bytes!("wire/cloudwatch-invalid.cbor");
/// The errors of the framework in front of the service, as DynamoDB's clients know them. The throttling error is in
/// dynalite's tests.
/// <https://github.com/mhart/dynalite/blob/main/test/helpers.js>
const CLOUDWATCH_VALIDATION: &[u8] = include_bytes!("wire/cloudwatch-validation.cbor");
const CLOUDWATCH_ACCESS_DENIED: &[u8] = include_bytes!("wire/cloudwatch-access-denied.cbor");
const CLOUDWATCH_THROTTLING: &[u8] = include_bytes!("wire/cloudwatch-throttling.cbor");

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html>
const EVENT_SCHEDULE: &str = include_str!("wire/event-schedule.json");
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-cloudwatch-events.sample.html>
const EVENT_RDS: &str = include_str!("wire/event-rds.json");
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html>
const EVENT_ALARM: &str = include_str!("wire/event-alarm.json");
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>, with the envelope that SNS puts into the body:
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
const EVENT_SQS: &str = include_str!("wire/event-sqs.json");
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html>
const EVENT_CLOUDFORMATION: &str = include_str!("wire/event-cloudformation.json");
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ElastiCacheSNS.html>
const ELASTICACHE_MESSAGES: &str = include_str!("wire/elasticache-messages.json");

const REQUEST_ID: (&str, &str) = ("x-amzn-RequestId", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
const XML: (&str, &str) = ("Content-Type", "text/xml");
const CBOR: (&str, &str) = ("Content-Type", "application/cbor");
const PROTOCOL: (&str, &str) = ("Smithy-Protocol", "rpc-v2-cbor");
/// The headers of responses with status 408 or 503.
const EMPTY: [(&str, &str); 2] = [("Content-Length", "0"), ("Connection", "close")];

fn fault(status: u16, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Fault {
    let headers = headers.iter();
    let headers: HeaderMap = headers
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    Fault::Raw(StatusCode::from_u16(status).unwrap(), headers, body.into())
}

/// Moves the endpoint from 10.0.1.7 to 10.0.2.9, and makes this the response to the next call of this action.
async fn moved(action: &str, fault: Fault) -> (World, Function) {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.aws.inject(action, fault);
    let function = world.function();
    (world, function)
}

/// Returns how often the action was called.
fn calls(world: &World, action: &str) -> usize {
    let actions = world.actions();
    actions.iter().filter(|one| *one == action).count()
}

#[tokio::test(start_paused = true)]
async fn what_elastic_load_balancing_acknowledges_counts() {
    for (action, body) in [
        ("RegisterTargets", REGISTER),
        ("DeregisterTargets", DEREGISTER),
    ] {
        let (world, function) = moved(action, fault(200, &[XML, REQUEST_ID], body)).await;
        let report = first(function.schedule().await);
        assert!(report.failover, "{action}");
        assert_eq!(calls(&world, action), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_elastic_load_balancing_describes_is_read() {
    let headers = [XML, REQUEST_ID];
    let (world, function) = moved("DescribeTargetHealth", fault(200, &headers, HEALTH)).await;
    let report = first(function.invoke(r#"{"dryRun":true}"#).await);
    assert_eq!(report.registered.len(), 0, "10.0.2.9 is initial");
    let stale: Vec<_> = report
        .deregistered
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        stale,
        ["10.0.3.3:6379", "10.0.4.4:6379"],
        "10.0.1.7 is draining"
    );
    drop(world);

    let (world, function) = moved("DescribeTargetHealth", fault(200, &headers, HEALTH_EMPTY)).await;
    let report = first(function.schedule().await);
    assert_eq!((report.registered.len(), report.deregistered.len()), (1, 0));
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn what_elastic_load_balancing_refuses_is_told_in_its_words() {
    let closes = ("Connection", "close");
    for (status, headers, body, expected) in [
        (
            403,
            &[XML, REQUEST_ID] as &[_],
            ELB_ACCESS_DENIED,
            "AccessDenied: User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: \
             elasticloadbalancing:RegisterTargets",
        ),
        (
            500,
            &[XML, REQUEST_ID],
            ELB_INTERNAL_FAILURE,
            "InternalFailure",
        ),
        (
            400,
            &[XML, REQUEST_ID, closes],
            ELB_THROTTLING,
            "Throttling: Rate exceeded",
        ),
        (
            503,
            &EMPTY,
            b"",
            "HTTP 503 with a body that is not an answer from AWS",
        ),
        (
            408,
            &EMPTY,
            b"",
            "HTTP 408 with a body that is not an answer from AWS",
        ),
        (
            503,
            &[("Content-Type", "text/html")],
            b"<html>Service Unavailable</html>\n",
            "HTTP 503 with a body that is not an answer from AWS",
        ),
    ] {
        let refused = fault(status, headers, body);
        let (world, function) = moved("RegisterTargets", refused.clone()).await;
        let is_retried = status != 403;
        let outcome = function.schedule().await;
        assert_eq!(outcome.is_ok(), is_retried, "{expected}");
        assert_eq!(
            calls(&world, "RegisterTargets"),
            1 + usize::from(is_retried),
            "{expected}"
        );

        world.aws.heal();
        world.point("10.0.3.3");
        world.aws.inject_always("RegisterTargets", refused);
        let errors = function.schedule().await.expect_err(expected);
        let message = what_failed(&errors.to_string());
        let expected = format!("cannot register 10.0.3.3:6379 in {ARN}: {expected}");
        assert_eq!((errors.error_type(), message), ("RegisterFailed", expected));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cloudwatch_acknowledges_counts() {
    // This is not the shortest way to write a length, but it is valid.
    let long_map: &[u8] = &[0xb8, 0x00];
    for (headers, body) in [
        (
            &[REQUEST_ID, PROTOCOL, ("Content-Length", "0")] as &[_],
            CLOUDWATCH_SUCCESS,
        ),
        (&[REQUEST_ID, PROTOCOL, CBOR], CLOUDWATCH_SUCCESS),
        (&[PROTOCOL], CLOUDWATCH_SUCCESS),
        (&[REQUEST_ID], CLOUDWATCH_SUCCESS),
        (&[PROTOCOL, CBOR], CLOUDWATCH_SUCCESS_MAP),
        (&[PROTOCOL, CBOR], &[0xa0]),
        (&[PROTOCOL, CBOR], long_map),
    ] {
        for status in [200, 204] {
            let (world, function) = moved("PutMetricData", fault(status, headers, body)).await;
            function.schedule().await.expect("success");
            assert_eq!(calls(&world, "PutMetricData"), 1, "nothing is left");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_answers_in_place_of_cloudwatch_does_not_count() {
    for (headers, body) in [
        (&[] as &[_], b"" as &[u8]),
        (&[CBOR], b""),
        (&[CBOR], b"\xbf\xff"),
        (&[("Smithy-Protocol", "rpc-v2-json")], b""),
        (&[("Content-Type", "text/html")], b"<html>Hotel</html>"),
        // Something in front of AWS may add AWS's headers.
        (&[PROTOCOL, REQUEST_ID], b"<html>Hotel</html>"),
        (&[PROTOCOL, REQUEST_ID], b"\xbf"),
        (&[PROTOCOL, REQUEST_ID], b"\xbf\xff\xff"),
        (&[PROTOCOL, REQUEST_ID], b"\xa0\xa0"),
        (&[PROTOCOL, REQUEST_ID], b"\x80"),
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world
            .aws
            .inject_always("PutMetricData", fault(200, headers, body));
        let errors = world.function().schedule().await.expect_err("a refusal");
        assert_eq!(errors.error_type(), "PublishFailed", "{headers:?} {body:?}");
        let message = what_failed(&errors.to_string());
        let expected = "HTTP 200 with a body that is not an answer from AWS";
        assert!(message.ends_with(expected), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cloudwatch_refuses_is_told_in_its_words() {
    let mut cases = Vec::new();
    for (status, body, text, query_error, exception) in [
        (
            400,
            CLOUDWATCH_INVALID,
            "The parameter MetricData.member.1 is invalid",
            "InvalidParameterValue;Sender",
            "InvalidParameterValueException",
        ),
        (
            400,
            CLOUDWATCH_VALIDATION,
            "1 validation error detected",
            "ValidationError;Sender",
            "ValidationException",
        ),
        (
            403,
            CLOUDWATCH_ACCESS_DENIED,
            "not authorized to perform: cloudwatch:PutMetricData",
            "AccessDenied;Sender",
            "AccessDeniedException",
        ),
        // The header is missing, as if a proxy had dropped it.
        (
            400,
            CLOUDWATCH_THROTTLING,
            "Rate exceeded",
            "",
            "ThrottlingException",
        ),
    ] {
        let headers = [REQUEST_ID, PROTOCOL, CBOR];
        cases.push((
            fault(status, &headers, body),
            format!("{exception}: {text}"),
        ));
        if let Some((code, _)) = query_error.split_once(';') {
            let headers = [&headers[..], &[("x-amzn-query-error", query_error)]].concat();
            cases.push((fault(status, &headers, body), format!("{code}: {text}")));
        }
    }
    for status in [408, 503] {
        let told = format!("HTTP {status} with a body that is not an answer from AWS");
        cases.push((fault(status, &EMPTY, b""), told));
    }
    for (refused, expected) in cases {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.aws.inject_always("PutMetricData", refused);
        let function = world.function();
        let errors = function.schedule().await.expect_err(&expected);
        assert_eq!(errors.error_type(), "PublishFailed");
        let message = what_failed(&errors.to_string());
        assert!(message.ends_with(&format!(": {expected}")), "{message}");

        world.aws.heal();
        function.schedule().await.expect("success");
        let kept = world.aws.take_data().len();
        let is_dropped = expected.contains("nvalid") || expected.starts_with("Validation");
        assert_eq!(kept == 3, is_dropped, "{expected}: {kept} data");
    }
}

fn cause(event: &str) -> Cause {
    Event::read(&RawValue::from_string(event.to_owned()).unwrap()).cause
}

#[test]
fn each_event_causes_what_it_should() {
    assert_eq!(cause(EVENT_SCHEDULE), Cause::Schedule);
    assert_eq!(cause(EVENT_RDS), Cause::Notification);
    assert_eq!(cause(EVENT_ALARM), Cause::Notification);
    assert_eq!(cause(EVENT_SQS), Cause::Queue);
    assert!(matches!(cause(EVENT_CLOUDFORMATION), Cause::Deployment(_)));

    let mut queue: Value = serde_json::from_str(EVENT_SQS).unwrap();
    let messages: Vec<Value> = serde_json::from_str(ELASTICACHE_MESSAGES).unwrap();
    assert_eq!(messages.len(), 4);
    for message in messages {
        let body = queue["Records"][0]["body"].as_str().unwrap();
        let mut envelope: Value = serde_json::from_str(body).unwrap();
        envelope["Message"] = message.to_string().into();
        queue["Records"][0]["body"] = format!("{envelope:#}").into();
        assert_eq!(cause(&queue.to_string()), Cause::Queue, "{message}");
    }
}

/// A name that moves 3 s after the event is followed.
#[tokio::test(start_paused = true)]
async fn a_notification_is_followed_for_a_window() {
    for event in [EVENT_RDS, EVENT_ALARM, EVENT_SQS] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        let function = world.function();
        let moves = async {
            sleep(Duration::from_secs(3)).await;
            world.point("10.0.2.9");
        };
        let (outcome, ()) = tokio::join!(function.invoke(event), moves);
        let report = first(outcome);
        assert!(report.failover, "{event}");
        assert_eq!(report.reconciles, 51, "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn cloudformation_is_answered_where_it_waits() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    first(world.function().invoke(EVENT_CLOUDFORMATION).await);
    let answers = world.aws.take_answers();
    let event: Value = serde_json::from_str(EVENT_CLOUDFORMATION).unwrap();
    let url = event["ResponseURL"].as_str().unwrap();
    assert_eq!((answers.len(), answers[0].url.as_str()), (1, url));
    assert_eq!(
        answers[0].content_type, None,
        "it would break the signature"
    );
    let answer: Value = serde_json::from_slice(&answers[0].body).unwrap();
    assert_eq!(answer["Status"], "SUCCESS");
}

fn answered(aws: &Aws, request: &Request) -> Response {
    match aws.answer(Instant::now(), request) {
        Reply::After(_, response) => response,
        other => panic!("{other:?}"),
    }
}

/// Returns what the stand-in answers to a form.
fn load_balancing(aws: &Aws, form: &str) -> String {
    let response = answered(aws, &Request::new(form.to_owned().into()));
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(response.headers()["x-amzn-requestid"], REQUEST_ID.1);
    assert!(!response.headers().contains_key("x-amzn-query-error"));
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// The stand-in is neither easier nor harder to please than AWS.
#[tokio::test(start_paused = true)]
async fn the_stand_in_sends_what_aws_sends() {
    let aws = Aws::default();
    aws.add(TargetGroup::ipv4(ARN, 6379));
    let group = format!("TargetGroupArn={ARN}");
    let target = "Targets.member.1.Id=10.0.1.7&Targets.member.1.Port=6379";
    for (action, expected) in [
        ("DescribeTargetHealth", HEALTH_EMPTY),
        ("RegisterTargets", REGISTER),
        ("DeregisterTargets", DEREGISTER),
    ] {
        let text = load_balancing(&aws, &format!("Action={action}&{group}&{target}"));
        assert_eq!(text.as_bytes(), expected, "{action}");
    }
    for address in ["10.0.2.9", "10.0.3.3"] {
        aws.register(ARN, address, 6379);
        sleep(Duration::from_secs(1)).await;
    }
    let described = load_balancing(&aws, &format!("Action=DescribeTargetHealth&{group}"));
    let members = described.split("      <member>\n");
    let expected = str::from_utf8(HEALTH).unwrap().split("      <member>\n");
    for (member, expected) in members.zip(expected).skip(1).take(2) {
        assert_eq!(member, expected, "one is draining, and one is initial");
    }

    let denied = "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: elasticloadbalancing:RegisterTargets";
    for (status, code, message, expected) in [
        (400, "Throttling", "Rate exceeded", ELB_THROTTLING),
        (403, "AccessDenied", denied, ELB_ACCESS_DENIED),
        (500, "InternalFailure", "", ELB_INTERNAL_FAILURE),
    ] {
        aws.inject("RegisterTargets", Fault::Error(status, code, message));
        let text = load_balancing(&aws, "Action=RegisterTargets");
        assert_eq!(text.as_bytes(), expected);
    }

    let invalid = "The parameter MetricData.member.1 is invalid";
    let denied = "not authorized to perform: cloudwatch:PutMetricData";
    let failed = "1 validation error detected";
    for (code, message, expected) in [
        ("InvalidParameterValue", invalid, CLOUDWATCH_INVALID),
        ("ValidationError", failed, CLOUDWATCH_VALIDATION),
        ("AccessDenied", denied, CLOUDWATCH_ACCESS_DENIED),
        ("Throttling", "Rate exceeded", CLOUDWATCH_THROTTLING),
    ] {
        aws.inject("PutMetricData", Fault::Error(400, code, message));
        let mut request = Request::new(b"".as_slice().into());
        let uri = "/service/GraniteServiceVersion20100801/operation/PutMetricData";
        *request.uri_mut() = uri.parse().unwrap();
        *request.method_mut() = Method::POST;
        let response = answered(&aws, &request);
        assert_eq!(response.body(), expected, "{code}");
        let header = response.headers().get("x-amzn-query-error");
        let header = header.map(|value| value.to_str().unwrap());
        let query_error = format!("{code};Sender");
        assert_eq!(header, (code != "Throttling").then_some(&*query_error));
        assert_eq!(response.headers()["smithy-protocol"], "rpc-v2-cbor");
    }
}
