//! Tests the exact type and text of each error, as Lambda gets them.

use std::time::Duration;

use nlb_hostname_target::error::{Error, Errors};
use serde_json::{Value, json};
use stand_in::aws::Fault;
use stand_in::dns::{self, Answer as DnsAnswer};
use stand_in::elb::TargetGroup;
use stand_in::lambda::{Answer, Process, Sandbox};
use stand_in::world::{
    ARN, DNS_SERVER, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, World, binary, group_arn,
};
use tokio::process::Command;

use crate::reading::{DENIED, error, lines, result, samples};

/// Returns the error's type and message in one text.
fn told(answer: &Answer) -> String {
    let (error_type, message) = error(answer);
    format!("{error_type}: {message}")
}

async fn failed(world: &World) -> String {
    told(&world.run().await)
}

#[tokio::test]
async fn an_invalid_configuration_answers_every_invocation_and_touches_nothing() {
    let mut world = World::settled("10.0.1.7").await;
    world.set("TARGET_PORT", "http");
    let mut sandbox = world.sandbox().await;
    for _ in 0..2 {
        assert_eq!(
            told(&sandbox.schedule().await),
            "InvalidConfig: TARGET_PORT is \"http\": expected a port from 1 to 65535"
        );
    }
    let Sandbox::Process(process) = &mut sandbox else {
        panic!("a world over sockets has processes")
    };
    assert!(process.is_alive());
    assert_eq!(world.aws.take_calls(), []);
    assert_eq!(world.zone.take_asked(), []);
    let logged = lines(&sandbox, "TARGET_PORT is \"http\"");
    assert_eq!((logged.len(), &logged[0]["level"]), (2, &json!("ERROR")));
}

#[tokio::test]
async fn a_value_that_is_not_unicode_is_malformed() {
    use std::os::unix::ffi::OsStringExt;
    let world = World::settled("10.0.1.7").await;
    let mut variables: Vec<_> = world
        .variables
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    variables.push((
        "DRY_RUN".to_owned(),
        std::ffi::OsString::from_vec(b"tru\xff".to_vec()),
    ));
    let mut sandbox = Process::start(Command::new(binary()), &variables).await;
    assert_eq!(
        told(&sandbox.schedule().await),
        "InvalidConfig: DRY_RUN is \"tru\u{fffd}\": expected true or false"
    );
}

type Break = fn(&World);

#[tokio::test(start_paused = true)]
async fn each_error_has_its_type_and_says_what_failed() {
    let unresolved = format!("ResolveFailed: cannot resolve {ENDPOINT}: {DNS_SERVER}");
    let undescribed = format!("DescribeFailed: cannot describe the targets of {ARN}:");
    let cases: [(Break, String); 10] = [
        (
            |world| world.answer(DnsAnswer::NxDomain),
            format!("{unresolved} answered NXDOMAIN"),
        ),
        (
            |world| world.answer(DnsAnswer::Empty),
            format!("{unresolved} has no A record"),
        ),
        (
            |world| world.answer(dns::addresses(["2001:db8::1"])),
            format!("{unresolved} has no A record"),
        ),
        (
            |world| world.answer(DnsAnswer::ServFail),
            format!("{unresolved} answered SERVFAIL"),
        ),
        (
            |world| world.answer(DnsAnswer::Refused),
            format!("{unresolved} answered REFUSED"),
        ),
        (
            |world| world.answer(DnsAnswer::Silent),
            format!("{unresolved} did not answer"),
        ),
        (
            |world| {
                let fault = Fault::Error(500, "HealthUnavailable", "try later");
                world.aws.inject_always("DescribeTargetHealth", fault);
            },
            format!("{undescribed} HealthUnavailable: try later"),
        ),
        (
            |world| {
                let fault = Fault::Garbage(502, "<html>Bad Gateway</html>");
                world.aws.inject_always("DescribeTargetHealth", fault);
            },
            format!("{undescribed} HTTP 502 with a body that is not an answer from AWS"),
        ),
        (
            |world| {
                world.answer(dns::addresses(["10.0.2.9", "10.0.2.10"]));
                world.aws.target_group(ARN, |group| group.max_targets = 2);
            },
            format!(
                "RegisterFailed: cannot register 10.0.2.9:6379, 10.0.2.10:6379 in {ARN}: TooManyTargets: \
                 You've reached the limit on the number of targets in a target group"
            ),
        ),
        (
            |world| {
                world.point("10.0.2.9");
                world.aws.inject_always("RegisterTargets", Fault::Hang);
            },
            format!(
                "RegisterFailed: cannot register 10.0.2.9:6379 in {ARN}: request has timed out: \
                 operation attempt timeout (single attempt) occurred after 2.5s"
            ),
        ),
    ];
    for (break_it, expected) in cases {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        break_it(&world);
        assert_eq!(failed(&world).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn resolve_failed_at_every_server() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    let other = stand_in::dns::Zone::default();
    let late = Duration::from_millis(100);
    let refused = DnsAnswer::Late(late, Box::new(DnsAnswer::Refused));
    other.set(ENDPOINT, refused);
    world.answer(DnsAnswer::ServFail);
    let first = world.variables["DNS_SERVERS"].clone();
    let second = world.ask_too(&other);
    assert_eq!(
        failed(&world).await,
        format!(
            "ResolveFailed: cannot resolve {ENDPOINT}: {first} answered SERVFAIL, {second} answered REFUSED"
        )
    );
}

async fn moved_with(protocol: &'static str) -> World {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    let change = |group: &mut TargetGroup| group.protocol = protocol;
    world.aws.target_group(ARN, change);
    world
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_protocol_needs_more_than_an_address_is_left_alone() {
    for protocol in ["QUIC", "TCP_QUIC", "GENEVE"] {
        let world = moved_with(protocol).await;
        assert_eq!(
            failed(&world).await,
            format!(
                "TargetGroupInvalid: cannot use target group {ARN}: its protocol is {protocol}, \
                 which needs more of a target than an address"
            )
        );
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
    }
    // The protocols of an Application Load Balancer are followed too, and so is whatever comes later.
    for protocol in ["HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "NEXT"] {
        let answer = moved_with(protocol).await.run().await;
        assert_eq!(result(&answer)["failover"], true, "{protocol}");
    }
}

#[tokio::test]
async fn target_group_invalid() {
    let mut world = World::settled("10.0.1.7").await;
    world
        .aws
        .target_group(ARN, |group| group.target_type = "instance");
    assert_eq!(
        told(&world.run().await),
        format!(
            "TargetGroupInvalid: cannot use target group {ARN}: its target type is \"instance\", \"ip\" is required"
        )
    );

    world.set("TARGET_GROUP_ARNS", OTHER_ARN);
    assert_eq!(
        told(&world.run().await),
        format!(
            "TargetGroupInvalid: cannot use target group {OTHER_ARN}: it does not exist \
             (TargetGroupNotFound: One or more target groups not found)"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_description_of_the_group_is_not_remembered() {
    let world = World::empty_in_memory();
    world.point("10.0.1.7");
    world.aws.inject("DescribeTargetGroups", DENIED);
    let mut sandbox = world.sandbox().await;
    assert_eq!(
        told(&sandbox.schedule().await),
        format!(
            "DescribeFailed: cannot describe target group {ARN}: AccessDenied: not authorized to perform this action"
        )
    );
    sandbox.schedule().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.1.7:6379 initial"]);
}

#[tokio::test(start_paused = true)]
async fn failures_with_the_same_consequence_share_its_words() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    let third_arn = group_arn(3);
    world.follow([
        (ENDPOINT, ARN),
        (OTHER_ENDPOINT, OTHER_ARN),
        (ENDPOINT, &third_arn),
    ]);
    world.zone.set(OTHER_ENDPOINT, DnsAnswer::NxDomain);
    world
        .aws
        .inject_where("DescribeTargetHealth", Some(ARN), DENIED, None);
    world
        .aws
        .inject_where("RegisterTargets", Some(&third_arn), DENIED, None);
    let errors = world.function().schedule().await.unwrap_err();
    let denied = "AccessDenied: not authorized to perform this action";
    assert_eq!(
        errors.to_string(),
        format!(
            "cannot describe the targets of {ARN}: {denied}; \
             cannot resolve {OTHER_ENDPOINT}: {DNS_SERVER} answered NXDOMAIN \
             (clients keep the targets that they have; the next reconcile tries again); \
             cannot register 10.0.1.7:6379 in {third_arn}: {denied} \
             (nothing was deregistered, so clients stay on the targets that they have; the next reconcile tries again)"
        )
    );
}

/// A response to `DescribeTargetHealth`. The only live target of the group is 10.0.1.7, because 10.0.2.9 is draining.
const TARGETS: &str = "\
<DescribeTargetHealthResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
<DescribeTargetHealthResult><TargetHealthDescriptions>\
<member><Target><Id>10.0.1.7</Id><Port>6379</Port></Target><TargetHealth><State>healthy</State></TargetHealth></member>\
<member><Target><Id>10.0.2.9</Id><Port>6379</Port></Target><TargetHealth><State>draining</State></TargetHealth></member>\
</TargetHealthDescriptions></DescribeTargetHealthResult></DescribeTargetHealthResponse>";

#[tokio::test(start_paused = true)]
async fn a_description_that_breaks_off_is_none() {
    for end in [
        "6379</Port></Target><TargetHealth><State>drain",
        "</State></TargetHealth></member>",
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        let (begin, _) = TARGETS.rsplit_once(end).unwrap();
        let broken: &str = [begin, end].concat().leak();
        world
            .aws
            .inject_always("DescribeTargetHealth", Fault::Garbage(200, broken));
        assert_eq!(
            failed(&world).await,
            format!(
                "DescribeFailed: cannot describe the targets of {ARN}: HTTP 200 with a body that is not an answer from AWS"
            )
        );
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"], "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_without_state_is_not_taken_for_a_live_one() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    let stateless: &str = TARGETS.replace("<State>draining</State>", "").leak();
    world
        .aws
        .inject("DescribeTargetHealth", Fault::Garbage(200, stateless));
    assert_eq!(
        failed(&world).await,
        format!(
            "DescribeFailed: cannot describe the targets of {ARN}: its target \"10.0.2.9\" has no state"
        )
    );
    assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
}

/// Each of these texts was seen in the field.
#[tokio::test(start_paused = true)]
async fn a_zone_is_given_where_elastic_load_balancing_wants_one() {
    let calls = async |code, text| {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("192.168.7.7");
        world
            .aws
            .inject("RegisterTargets", Fault::Error(400, code, text));
        let outcome = world.run().await.outcome;
        let calls = world.aws.take_calls().into_iter();
        let zones = calls.filter(|call| call.action == "RegisterTargets");
        let zones: Vec<_> = zones.map(|call| call.targets[0].zone.clone()).collect();
        (outcome.is_ok(), zones)
    };
    for text in [
        "The Availability Zone is required for IP address '192.168.7.7' because it is not in the VPC",
        "You must specify a valid Availability Zone or select 'all' for '192.168.7.7' since the IP address \
         '192.168.7.7' is outside the VPC",
        "You must specify an Availability Zone",
        "The Availability Zone of '192.168.7.7' must be 'all' because it is outside the VPC",
    ] {
        let expected = (true, vec![None, Some("all".to_owned())]);
        assert_eq!(calls("ValidationError", text).await, expected, "{text}");
    }
    for (code, text) in [
        (
            "ValidationError",
            "The IP address '192.168.7.7' is within the VPC, and cannot have its Availability Zone \
             overridden to 'all' from 'eu-west-1a'",
        ),
        (
            "ValidationError",
            "The zone must be 'all' for '192.168.7.7'",
        ),
        ("InvalidTarget", "The Availability Zone is required"),
    ] {
        assert_eq!(calls(code, text).await, (false, vec![None]), "{text}");
    }
}

#[tokio::test]
async fn the_page_of_a_proxy_is_no_acknowledgement() {
    let page = Fault::Garbage(200, "<html>Hotel</html>");
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.sandbox().await;
    world.point("10.0.2.9");
    for (action, failure, group) in [
        (
            "RegisterTargets",
            "RegisterFailed: cannot register 10.0.2.9:6379 in",
            vec!["10.0.1.7:6379 healthy"],
        ),
        (
            "DeregisterTargets",
            "DeregisterFailed: cannot deregister 10.0.1.7:6379 from",
            vec!["10.0.1.7:6379 healthy", "10.0.2.9:6379 initial"],
        ),
    ] {
        world.aws.inject_always(action, page.clone());
        assert_eq!(
            told(&sandbox.schedule().await),
            format!("{failure} {ARN}: HTTP 200 with a body that is not an answer from AWS")
        );
        world.aws.heal();
        assert_eq!(world.group(), group);
    }
    world.aws.inject_always("PutMetricData", page);
    assert_eq!(error(&sandbox.schedule().await).0, "PublishFailed");
    assert_eq!(world.group()[0], "10.0.1.7:6379 draining");

    world.aws.heal();
    sandbox.schedule().await.outcome.unwrap();
    let failovers = samples(&world, "Failover");
    assert!(failovers.contains(&1.0), "it was kept");
}

#[tokio::test(start_paused = true)]
async fn only_what_elastic_load_balancing_sends_is_an_acknowledgement() {
    const WHOLE: &str =
        "<RegisterTargetsResponse><RegisterTargetsResult/></RegisterTargetsResponse>";
    let (breaks_off, _) = WHOLE.split_at(WHOLE.len() - 1);
    let inside_a_page = format!("<html>{WHOLE}");
    let twice = WHOLE.repeat(2);
    for (status, body) in [
        (200, ""),
        (204, ""),
        (200, " \n"),
        (200, breaks_off),
        (
            200,
            "<RegisterTargetsResponse><html></RegisterTargetsResponse>",
        ),
        (200, "<RegisterTargetsResponse></html>"),
        (
            200,
            "<DeregisterTargetsResponse></DeregisterTargetsResponse>",
        ),
        (200, "<RegisterTargetsResponses></RegisterTargetsResponses>"),
        (200, "<ErrorResponse></ErrorResponse>"),
        (200, inside_a_page.leak()),
        (200, twice.leak()),
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        world
            .aws
            .inject_always("RegisterTargets", Fault::Garbage(status, body));
        let expected = format!(
            "RegisterFailed: cannot register 10.0.2.9:6379 in {ARN}: \
             HTTP {status} with a body that is not an answer from AWS"
        );
        assert_eq!(failed(&world).await, expected, "{body}");
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"], "{body}");
    }
    for (begin, whole, end) in [
        ("", WHOLE, ""),
        ("", "<RegisterTargetsResponse/>", ""),
        (
            "",
            "<elb:RegisterTargetsResponse xmlns:elb=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"/>",
            "",
        ),
        ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", WHOLE, "\n"),
        (" <?xml version='1.0'?> ", WHOLE, " "),
        ("\u{feff}", WHOLE, ""),
        ("<!-- 1 -->", WHOLE, "<?target here?><!-- 2 -->"),
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        let body = format!("{begin}{whole}{end}").leak();
        world
            .aws
            .inject("RegisterTargets", Fault::Garbage(200, body));
        world.run().await.outcome.expect(body);
    }
}

#[test]
fn a_message_names_100_failures_and_counts_the_others() {
    let message = |count: usize| {
        let failures = (0..count).map(|index| Error::AnswerFailed(format!("failure {index}")));
        Errors::check(failures).unwrap_err().to_string()
    };
    assert!(message(100).contains("failure 99") && !message(100).contains("more"));
    assert!(message(102).contains("failure 99") && !message(102).contains("failure 100"));
    assert!(message(102).ends_with("; and 2 more"));
}

#[tokio::test(start_paused = true)]
async fn a_target_group_that_is_deleted_is_invalid_also_where_it_is_known() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.aws.remove(ARN);
    let (error_type, message) = error(&sandbox.schedule().await);
    assert_eq!(error_type, "TargetGroupInvalid");
    assert!(message.contains("it does not exist"), "{message}");
    assert_eq!(world.actions(), ["DescribeTargetHealth", "PutMetricData"]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_and_a_description_that_both_fail_are_both_told() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.follow([ENDPOINT, OTHER_ENDPOINT].map(|endpoint| (endpoint, ARN)));
    world.zone.set(OTHER_ENDPOINT, DnsAnswer::NxDomain);
    world.aws.inject_always("DescribeTargetHealth", DENIED);
    assert_eq!(
        failed(&world).await,
        format!(
            "ResolveFailed: cannot resolve {OTHER_ENDPOINT}: {DNS_SERVER} answered NXDOMAIN; cannot describe the \
             targets of {ARN}: AccessDenied: not authorized to perform this action"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_group_in_configuration_order_gives_the_type_and_all_are_told() {
    let world = World::two_in_memory().await;
    world
        .aws
        .inject_where("DescribeTargetHealth", Some(ARN), DENIED, None);
    world.zone.set(OTHER_ENDPOINT, DnsAnswer::NxDomain);
    world.aws.inject_always("PutMetricData", DENIED);
    let message = failed(&world).await;
    let texts = message.split("; ").map(|text| text.split(": "));
    let texts: Vec<_> = texts.flat_map(|mut text| text.next()).collect();
    assert_eq!(
        texts,
        [
            "DescribeFailed",
            &format!("cannot resolve {OTHER_ENDPOINT}"),
            "cannot publish 6 metric data to NlbHostnameTarget",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_of_another_kind_is_not_retried_as_if_it_were_dns() {
    let world = World::empty_in_memory();
    let change = |group: &mut TargetGroup| group.target_type = "alb";
    world.aws.target_group(ARN, change);
    assert!(failed(&world).await.starts_with("TargetGroupInvalid: "));
    assert_eq!(world.zone.take_asked(), [], "nothing is resolved for it");
}

#[test]
fn without_the_runtime_api_the_binary_says_so_in_one_line_and_exits_1() {
    let output = std::process::Command::new(binary())
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "nlb-hostname-target runs as an AWS Lambda function: AWS_LAMBDA_RUNTIME_API is not set\n"
    );
}

/// lambda_runtime panics if Lambda's own variables are missing. Nothing else is known to panic.
#[test]
fn a_panic_is_a_line_of_the_log() {
    let output = std::process::Command::new(binary())
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stderr, b"");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = line["message"].as_str().unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(message.starts_with("panicked at "), "{message}");
    assert!(message.contains("AWS_LAMBDA_FUNCTION_NAME"), "{message}");
}
