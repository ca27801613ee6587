//! What users see: the result, the calls, the metrics and the log, over the real binary and real sockets.

use std::time::Duration;

use serde_json::{Value, json};
use stand_in::aws::Fault;
use stand_in::dns::{self, Answer, ResponseCode};

use crate::world::{
    ARN, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, World, actions, error, lines, result, tick,
    what_failed,
};

const UNAVAILABLE: Fault = Fault::Error(503, "ServiceUnavailable", "try later");
const DENIED: Fault = Fault::Error(403, "AccessDenied", "not authorized to perform this action");

#[tokio::test]
async fn the_first_registration_is_no_failover() {
    let world = World::new().await;
    world.point("10.0.1.7");
    let answer = world.run().await;
    assert_eq!(
        answer.outcome.unwrap(),
        json!({
            "dryRun": false,
            "targetGroups": [{
                "targetGroupArn": ARN,
                "endpoints": [ENDPOINT],
                "desired": ["10.0.1.7:6379"],
                "registered": ["10.0.1.7:6379"],
                "deregistered": [],
                "failover": false,
                "reconciles": 1,
            }],
        })
    );
    assert_eq!(
        world.actions(),
        [
            "DescribeTargetGroups",
            "DescribeTargetHealth",
            "RegisterTargets",
            "PutMetricData"
        ]
    );
}

#[tokio::test]
async fn an_idle_reconcile_makes_two_calls_and_a_failover_four() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    tick(&mut sandbox).await.outcome.unwrap();
    assert_eq!(world.actions(), ["DescribeTargetHealth", "PutMetricData"]);

    world.point("10.0.2.9");
    let answer = tick(&mut sandbox).await;
    assert_eq!(
        world.actions(),
        [
            "DescribeTargetHealth",
            "RegisterTargets",
            "DeregisterTargets",
            "PutMetricData"
        ]
    );
    let group = result(&answer);
    assert_eq!(group["registered"], json!(["10.0.2.9:6379"]));
    assert_eq!(group["deregistered"], json!(["10.0.1.7:6379"]));
    assert_eq!(group["failover"], true);
}

#[tokio::test]
async fn metrics_go_out_for_the_function_and_for_each_group_that_something_happened_to() {
    let world = World::with_two_groups().await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    world.zone.set(
        OTHER_ENDPOINT,
        Answer::Late(Duration::from_millis(300), Box::new(Answer::NxDomain)),
    );
    assert_eq!(error(&tick(&mut sandbox).await).0, "ResolveFailed");
    let data = world.aws.take_data();
    assert!(
        data.iter()
            .all(|datum| datum.unit == "Count" && datum.namespace == "NlbHostnameTarget")
    );
    let sum = |dimension: &str, metric: &str| -> f64 {
        let matching = data.iter().filter(|datum| {
            datum.metric == metric
                && datum.dimensions.len() == 1
                && datum.dimensions[0].1 == dimension
        });
        matching.flat_map(|datum| &datum.samples).sum()
    };
    for (dimension, failovers, failures) in [
        ("targetgroup/redis/0123456789abcdef", 1.0, 0.0),
        ("targetgroup/other/fedcba9876543210", 0.0, 1.0),
        ("nlb-hostname-target", 1.0, 1.0),
    ] {
        assert_eq!(sum(dimension, "Failover"), failovers, "{dimension}");
        assert_eq!(sum(dimension, "ReconcileFailure"), failures, "{dimension}");
    }
    let published: Vec<_> = world
        .aws
        .take_calls()
        .into_iter()
        .filter(|call| !call.data.is_empty())
        .collect();
    assert_eq!(
        published.len(),
        2,
        "the failover's at once, the rest at the end"
    );
    assert_eq!(published[0].data.len(), 6);
}

#[tokio::test]
async fn a_failover_is_counted_once_also_when_its_deregistration_failed_first() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    world
        .aws
        .inject_where("DeregisterTargets", None, DENIED, Some(2));
    for _ in 0..2 {
        assert_eq!(error(&tick(&mut sandbox).await).0, "DeregisterFailed");
    }
    for failover in [true, false] {
        assert_eq!(result(&tick(&mut sandbox).await)["failover"], failover);
    }
    let data = world.aws.take_data();
    let failovers = data
        .iter()
        .filter(|datum| datum.metric == "Failover" && datum.dimensions[0].0 == "FunctionName");
    // A minute may end between any two of them.
    let values: Vec<_> = failovers.flat_map(|datum| datum.samples.clone()).collect();
    assert_eq!(
        values,
        [0.0, 0.0, 1.0, 0.0],
        "the target that was registered a moment ago stays for sure"
    );
}

#[tokio::test]
async fn a_changed_port_is_no_failover() {
    let world = World::new().await;
    world.point("10.0.1.7");
    world.aws.register(ARN, "10.0.1.7", 7000);
    let answer = world.run().await;
    assert_eq!(result(&answer)["registered"], json!(["10.0.1.7:6379"]));
    assert_eq!(result(&answer)["deregistered"], json!(["10.0.1.7:7000"]));
    assert_eq!(result(&answer)["failover"], false);
}

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
        let answer = world
            .sandbox()
            .await
            .invoke(event, Duration::from_secs(75))
            .await;
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
    assert_eq!(error(&tick(&mut sandbox).await).0, "PublishFailed");
    world.aws.heal();
    world.aws.take_calls();

    world.answer(Answer::NxDomain);
    let answer = sandbox
        .invoke(r#"{"dryRun":true}"#, Duration::from_secs(75))
        .await;
    assert_eq!(error(&answer).0, "ResolveFailed");
    assert_eq!(world.actions(), ["DescribeTargetHealth"]);

    world.point("10.0.1.7");
    tick(&mut sandbox).await.outcome.unwrap();
    let data = world.aws.take_data().into_iter();
    let samples = data
        .filter(|datum| datum.metric == "Failover")
        .flat_map(|datum| datum.samples);
    assert_eq!(samples.count(), 2, "two reconciles, without the dry run");
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
        let answer = sandbox.invoke(event, Duration::from_secs(75)).await;
        assert_eq!(result(&answer)["reconciles"], 1, "{event:.40}");
        assert_eq!(world.actions(), ["DescribeTargetHealth", "PutMetricData"]);
    }
}

#[tokio::test]
async fn several_endpoints_feed_one_group_and_one_feeds_several() {
    let mut world = World::with_two_groups().await;
    world.set(
        "ENDPOINTS",
        &format!("{ENDPOINT},{OTHER_ENDPOINT},{OTHER_ENDPOINT}"),
    );
    world.set(
        "TARGET_GROUP_ARNS",
        &format!("{OTHER_ARN},{ARN},{OTHER_ARN}"),
    );
    let answer = world.run().await;
    let groups = answer.outcome.unwrap()["targetGroups"].clone();
    let seen: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (&group["targetGroupArn"], &group["desired"]))
        .collect();
    assert_eq!(
        seen,
        [
            (
                &json!(OTHER_ARN),
                &json!(["10.0.1.7:6380", "10.0.3.3:6380"])
            ),
            (&json!(ARN), &json!(["10.0.3.3:6379"])),
        ],
        "in configuration order, each at its group's own port"
    );
}

#[tokio::test]
async fn the_target_port_can_be_set() {
    let mut world = World::new().await;
    world.point("10.0.1.7");
    world.set("TARGET_PORT", "6380");
    world.run().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.1.7:6380 healthy"]);
}

#[tokio::test]
async fn an_ipv6_group_takes_aaaa_records() {
    let world = World::new().await;
    world.aws.target_group(ARN, |group| group.is_ipv6 = true);
    world.answer(dns::addresses(["10.0.1.7", "2001:db8::9"]));
    let answer = world.run().await;
    assert_eq!(result(&answer)["registered"], json!(["[2001:db8::9]:6379"]));
    let asked = world.zone.take_asked();
    assert_eq!((asked.len(), asked[0].record_type.as_str()), (1, "AAAA"));
}

#[tokio::test]
async fn a_chain_of_cnames_is_followed_in_one_answer_and_over_several() {
    for is_split in [false, true] {
        let world = World::new().await;
        let cname = |target: &str| Answer::Cname {
            ttl: 5,
            target: target.to_owned(),
            is_split,
        };
        world.answer(cname("Shard.example.com"));
        world
            .zone
            .set("shard.example.com", cname("node.example.com"));
        world
            .zone
            .set("node.example.com", dns::addresses(["10.0.1.7"]));
        world.run().await.outcome.unwrap();
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
        assert_eq!(world.zone.take_asked().len(), if is_split { 3 } else { 1 });
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let world = World::new().await;
    let many = (1..=100)
        .map(|last| std::net::Ipv4Addr::new(10, 0, 1, last).into())
        .collect();
    world.answer(Answer::Truncated(Box::new(Answer::Addresses {
        ttl: 5,
        addresses: many,
    })));
    world.run().await.outcome.unwrap();
    assert_eq!(world.group().len(), 100);
    let asked: Vec<_> = world
        .zone
        .take_asked()
        .iter()
        .map(|asked| asked.is_tcp)
        .collect();
    assert_eq!(asked, [false, true]);
}

#[tokio::test]
async fn an_address_of_another_name_or_family_in_the_answer_is_not_taken() {
    let world = World::new().await;
    let record = |name: &str, address: &str| (name.to_owned(), address.parse().unwrap());
    world.answer(Answer::Records(
        ResponseCode::NoError,
        vec![
            record(ENDPOINT, "10.0.1.7"),
            record("stranger.example.com", "10.0.66.6"),
            record(ENDPOINT, "2001:db8::6"),
        ],
    ));
    world.run().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
}

#[tokio::test]
async fn the_first_dns_server_that_knows_wins() {
    let knows = dns::addresses(["10.0.2.9"]);
    let late = |answer: &Answer| Answer::Late(Duration::from_millis(150), Box::new(answer.clone()));
    for (first, second, expected) in [
        (Answer::ServFail, late(&knows), Ok(())),
        (Answer::Refused, late(&knows), Ok(())),
        (Answer::Silent, late(&knows), Ok(())),
        (Answer::NxDomain, late(&knows), Err("answered NXDOMAIN")),
        (Answer::Empty, late(&knows), Err("knows no A record")),
        (late(&knows), Answer::NxDomain, Err("answered NXDOMAIN")),
    ] {
        let mut world = World::settled("10.0.1.7").await;
        let other = dns::Zone::default();
        let server = dns::Server::start(&other).await;
        world.answer(first.clone());
        other.set(ENDPOINT, second);
        let servers = format!("{},{}", world.variables["DNS_SERVERS"], server.address);
        world.set("DNS_SERVERS", &servers);
        let answer = world.run().await;
        match expected {
            Ok(()) => assert_eq!(
                result(&answer)["desired"],
                json!(["10.0.2.9:6379"]),
                "{first:?}"
            ),
            Err(cause) => {
                let (error_type, message) = error(&answer);
                assert_eq!(error_type, "ResolveFailed", "{first:?}");
                assert!(message.ends_with(cause), "{first:?}: {message}");
            }
        }
        assert!(
            answer.took < Duration::from_secs(1),
            "{first:?} took {:?}",
            answer.took
        );
    }
}

#[tokio::test]
async fn an_address_outside_the_vpc_is_registered_with_the_zone_all() {
    let world = World::new().await;
    world.point("192.168.7.7");
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 192.168.7.7:6379 ValidationError",
            "RegisterTargets 192.168.7.7:6379@all Ok",
        ]
    );
}

#[tokio::test]
async fn only_the_targets_that_need_it_get_the_zone_all() {
    let world = World::settled("10.0.9.9").await;
    world.answer(dns::addresses(["10.0.1.7", "192.168.7.7"]));
    let answer = world.run().await;
    assert_eq!(
        result(&answer)["registered"],
        json!(["10.0.1.7:6379", "192.168.7.7:6379"])
    );
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 10.0.1.7:6379,192.168.7.7:6379 ValidationError",
            "RegisterTargets 10.0.1.7:6379 Ok",
            "RegisterTargets 192.168.7.7:6379 ValidationError",
            "RegisterTargets 192.168.7.7:6379@all Ok",
            "DeregisterTargets 10.0.9.9:6379@eu-west-1a Ok",
        ]
    );
}

#[tokio::test]
async fn every_target_must_be_registered_before_any_is_deregistered() {
    let world = World::settled("10.0.9.9").await;
    world.answer(dns::addresses(["10.0.1.7", "192.168.7.7"]));
    let required = Fault::Error(
        400,
        "ValidationError",
        "The Availability Zone is required for IP address '192.168.7.7' because it is not in the VPC",
    );
    world.aws.inject("RegisterTargets", required);
    world.aws.inject("RegisterTargets", DENIED);
    let mut sandbox = world.sandbox().await;
    let (error_type, message) = error(&tick(&mut sandbox).await);
    assert_eq!(error_type, "RegisterFailed");
    assert!(
        message.starts_with("cannot register 10.0.1.7:6379 in"),
        "{message}"
    );
    assert_eq!(
        world.group(),
        ["10.0.9.9:6379 healthy", "192.168.7.7:6379 healthy"]
    );
    let logged = &lines(&sandbox, "result")[0]["targetGroups"][0];
    assert_eq!(
        logged["registered"],
        json!(["192.168.7.7:6379"]),
        "what ELB acknowledged"
    );
}

#[tokio::test]
async fn another_refusal_does_not_try_the_zone_all() {
    let world = World::settled("10.0.9.9").await;
    world.point("10.0.1.7");
    world.aws.inject_always(
        "RegisterTargets",
        Fault::Error(400, "ValidationError", "something else is required"),
    );
    assert_eq!(error(&world.run().await).0, "RegisterFailed");
    assert_eq!(
        world.changes(),
        ["RegisterTargets 10.0.1.7:6379 ValidationError"]
    );
}

#[tokio::test]
async fn a_reconcile_deregisters_200_targets_and_the_one_that_ends_it_is_the_failover() {
    let world = World::new().await;
    world.point("10.0.0.1");
    for (third, last) in (1..=2).flat_map(|third| (0..250).map(move |last| (third, last))) {
        world
            .aws
            .register(ARN, &format!("10.0.{third}.{last}"), 6379);
    }
    let mut sandbox = world.sandbox().await;
    for (count, is_failover) in [(200, false), (200, false), (100, true), (0, false)] {
        let answer = tick(&mut sandbox).await;
        let deregistered = result(&answer)["deregistered"].as_array().unwrap().len();
        assert_eq!(deregistered, count);
        assert_eq!(result(&answer)["failover"], is_failover);
    }
}

#[tokio::test]
async fn a_throttled_call_is_tried_again_within_the_reconcile() {
    let world = World::settled("10.0.1.7").await;
    let throttled = Fault::Error(400, "Throttling", "Rate exceeded");
    world.point("10.0.2.9");
    for action in [
        "DescribeTargetHealth",
        "RegisterTargets",
        "DeregisterTargets",
        "PutMetricData",
    ] {
        world.aws.inject(action, throttled.clone());
    }
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"]
    );
}

#[tokio::test]
async fn a_lost_answer_is_made_good_by_the_sdks_retry() {
    for action in ["RegisterTargets", "DeregisterTargets"] {
        let world = World::settled("10.0.1.7").await;
        world.point("10.0.2.9");
        world.aws.inject(action, Fault::LostAnswer);
        world.run().await.outcome.unwrap();
        assert_eq!(
            world.group(),
            ["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"]
        );
    }
}

#[tokio::test]
async fn data_that_cloudwatch_calls_invalid_are_dropped_with_a_line() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    let invalid = Fault::Error(400, "InvalidParameterValue", "The parameter is invalid.");
    world.aws.inject("PutMetricData", invalid);
    assert_eq!(error(&tick(&mut sandbox).await).0, "PublishFailed");
    tick(&mut sandbox).await.outcome.unwrap();
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

#[tokio::test]
async fn the_namespace_is_the_configured_one() {
    let mut world = World::settled("10.0.1.7").await;
    world.set("METRIC_NAMESPACE", "My/Redis");
    world.run().await.outcome.unwrap();
    assert!(
        world
            .aws
            .take_data()
            .iter()
            .all(|datum| datum.namespace == "My/Redis")
    );
}

#[tokio::test]
async fn a_large_publication_is_compressed_and_split_into_calls_of_1000() {
    let world = World::with_two_groups().await;
    for endpoint in [ENDPOINT, OTHER_ENDPOINT] {
        world.zone.set(endpoint, Answer::NxDomain);
    }
    let mut sandbox = world.sandbox().await;
    world.aws.inject_always("PutMetricData", DENIED);
    for _ in 0..170 {
        assert_eq!(error(&tick(&mut sandbox).await).0, "ResolveFailed");
    }
    world.aws.heal();
    world.aws.take_calls();
    assert_eq!(error(&tick(&mut sandbox).await).0, "ResolveFailed");
    let published = world.aws.take_calls();
    let sizes: Vec<_> = published
        .iter()
        .filter(|call| !call.data.is_empty())
        .map(|call| call.data.len())
        .collect();
    assert_eq!(
        sizes,
        [1000, 26],
        "171 invocations, two data of each group and of the function"
    );
}

#[tokio::test]
async fn the_log_has_a_line_before_each_change_one_per_reconcile_and_one_result() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    let answer = tick(&mut sandbox).await;
    let log = sandbox.log();
    let lines: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_failover = &lines[lines.len() - 4..];
    let messages: Vec<_> = of_failover
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "registering 10.0.2.9:6379: new connections reach them once the load balancer finds them healthy",
            "deregistering 10.0.1.7:6379: their connections end with the deregistration delay",
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

#[tokio::test]
async fn a_failed_groups_result_is_logged_with_type_and_message() {
    let world = World::with_two_groups().await;
    world.answer(Answer::NxDomain);
    let mut sandbox = world.sandbox().await;
    let (error_type, message) = error(&tick(&mut sandbox).await);
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

#[tokio::test]
async fn a_good_answer_is_told_also_when_the_group_could_not_be_described() {
    let world = World::settled("10.0.1.7").await;
    world.aws.inject_always("DescribeTargetHealth", DENIED);
    let mut sandbox = world.sandbox().await;
    assert_eq!(error(&tick(&mut sandbox).await).0, "DescribeFailed");
    let group = &lines(&sandbox, "result")[0]["targetGroups"][0];
    assert_eq!(group["desired"], json!(["10.0.1.7:6379"]));
}

#[tokio::test]
async fn a_service_may_have_an_address_of_its_own() {
    let mut world = World::settled("10.0.1.7").await;
    let elsewhere = stand_in::aws::Aws::default();
    let server = elsewhere.serve().await;
    world.set(
        "AWS_ENDPOINT_URL_CLOUDWATCH",
        &format!("http://{}", server.address),
    );
    world.run().await.outcome.unwrap();
    assert_eq!(actions(&elsewhere.take_calls()), ["PutMetricData"]);
    assert_eq!(
        world.actions(),
        ["DescribeTargetGroups", "DescribeTargetHealth"]
    );
}

#[tokio::test]
async fn the_allowed_cidrs_are_the_configured_ones() {
    for (allowed, expected) in [
        ("10.0.1.0/24", Err("10.0.2.9 is outside ALLOWED_CIDRS")),
        ("fd00::/8", Err("10.0.2.9 is outside ALLOWED_CIDRS")),
        ("10.0.1.0/24,10.0.2.9/32", Ok(())),
    ] {
        let mut world = World::settled("10.0.1.7").await;
        world.point("10.0.2.9");
        world.set("ALLOWED_CIDRS", allowed);
        let answer = world.run().await;
        match expected {
            Ok(()) => assert_eq!(result(&answer)["registered"], json!(["10.0.2.9:6379"])),
            Err(reason) => assert!(error(&answer).1.ends_with(reason), "{allowed}"),
        }
    }
    let mut world = World::settled("10.0.1.7").await;
    world.point("11.0.0.1");
    world.set("ALLOWED_CIDRS", "0.0.0.0/0");
    assert_eq!(
        error(&world.run().await).0,
        "RegisterFailed",
        "ELB has the last word"
    );
}

#[tokio::test]
async fn without_dns_servers_the_systems_are_asked() {
    let mut world = World::settled("10.0.1.7").await;
    world.variables.remove("DNS_SERVERS");
    // Nobody is asked for a name that cannot exist (RFC 6761), so that this test talks to no one.
    world.set("ENDPOINTS", "redis.invalid");
    let (error_type, message) = error(&world.run().await);
    assert_eq!(error_type, "ResolveFailed");
    let configuration = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = configuration
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let servers = words.filter_map(|words| match words[..] {
        ["nameserver", server, ..] => server.parse::<std::net::IpAddr>().ok(),
        _ => None,
    });
    let mut expected: Vec<_> = servers
        .map(|server| {
            format!(
                "{} answered NXDOMAIN",
                std::net::SocketAddr::new(server, 53)
            )
        })
        .collect();
    expected
        .push("cannot read /etc/resolv.conf: io error: no nameservers found in config".to_owned());
    assert!(
        expected.iter().any(|cause| message.ends_with(cause)),
        "{message}"
    );
}

#[tokio::test]
async fn an_unknown_response_code_loses_to_a_server_that_knows() {
    let mut world = World::settled("10.0.1.7").await;
    let other = dns::Zone::default();
    let server = dns::Server::start(&other).await;
    world.answer(Answer::Records(ResponseCode::Unknown(4095), vec![]));
    let late = Answer::Late(
        Duration::from_millis(150),
        Box::new(dns::addresses(["10.0.2.9"])),
    );
    other.set(ENDPOINT, late);
    let servers = format!("{},{}", world.variables["DNS_SERVERS"], server.address);
    world.set("DNS_SERVERS", &servers);
    assert_eq!(
        result(&world.run().await)["desired"],
        json!(["10.0.2.9:6379"])
    );
}

#[tokio::test]
async fn one_cause_is_told_once() {
    let mut world = World::with_two_groups().await;
    world.set("ENDPOINTS", &format!("{ENDPOINT},{ENDPOINT}"));
    world.answer(Answer::NxDomain);
    let server = &world.variables["DNS_SERVERS"];
    assert_eq!(
        error(&world.run().await).1,
        format!("cannot resolve {ENDPOINT}: {server} answered NXDOMAIN")
    );
}

#[tokio::test]
async fn data_dropped_in_one_call_are_told_also_when_the_next_failed_otherwise() {
    let world = World::with_two_groups().await;
    let mut sandbox = world.warm_sandbox().await;
    for endpoint in [ENDPOINT, OTHER_ENDPOINT] {
        world.zone.set(endpoint, Answer::NxDomain);
    }
    world.aws.inject_always("PutMetricData", DENIED);
    for _ in 0..170 {
        tick(&mut sandbox).await.outcome.unwrap_err();
    }
    world.aws.heal();
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
        error(&tick(&mut sandbox).await),
        (
            "PublishFailed".to_owned(),
            "cannot publish 1000 metric data to NlbHostnameTarget: \
             InvalidParameterValue: The parameter is invalid."
                .to_owned()
        )
    );
    let data = world.aws.take_data().into_iter();
    let mut failovers = data.filter(|datum| datum.metric == "Failover");
    assert!(
        failovers.any(|datum| datum.samples.contains(&1.0)),
        "the rest went out at the end"
    );
}

#[tokio::test]
async fn the_services_are_called_over_tls_and_their_certificates_verified() {
    let mut world = World::settled("10.0.1.7").await;
    let (server, certificate) = world.aws.serve_tls().await;
    world.set(
        "AWS_ENDPOINT_URL",
        &format!("https://localhost:{}", server.address.port()),
    );
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), certificate).unwrap();
    let (error_type, message) = error(&world.run().await);
    assert_eq!(error_type, "DescribeFailed");
    assert!(message.contains("invalid peer certificate"), "{message}");

    world.set("SSL_CERT_FILE", trusted.path().to_str().unwrap());
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.actions(),
        [
            "DescribeTargetGroups",
            "DescribeTargetHealth",
            "PutMetricData"
        ]
    );
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
        let logged = sandbox.log();
        let logged = logged
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let logged: Vec<_> = logged.map(|line| line["message"].clone()).collect();
        assert_eq!(logged, messages, "{level}");
        world.answer(Answer::NxDomain);
        tick(&mut sandbox).await.outcome.unwrap_err();
        assert_eq!(lines(&sandbox, "reconcile failed").len(), 1, "{level}");
        world.point("10.0.1.7");
    }
}

#[tokio::test]
async fn without_credentials_the_call_fails_at_once_and_says_why() {
    let mut world = World::settled("10.0.1.7").await;
    world.variables.remove("AWS_ACCESS_KEY_ID");
    let answer = world.run().await;
    let (error_type, message) = error(&answer);
    assert_eq!(error_type, "DescribeFailed");
    assert!(message.contains("credential"), "{message}");
    assert!(
        answer.took < Duration::from_secs(2),
        "took {:?}",
        answer.took
    );
}
