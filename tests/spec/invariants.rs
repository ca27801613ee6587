//! Tests what is always true (I1 to I7, I9 to I11), in virtual time. Each of these invariants is also tested on the
//! real binary over real sockets. `overlap.rs` tests I8.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_smithy_async::time::TimeSource;
use serde_json::json;
use stand_in::aws::Fault;
use stand_in::dns::{self, Answer, Forgery, ResponseCode};
use stand_in::elb::TargetDescription;
use stand_in::lambda::{QUEUE, TIMEOUT};
use stand_in::world::{ARN, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, PORT, REGISTRATION_LAG, World};
use tokio::join;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::reading::{THROTTLED, UNAVAILABLE, error, lines, result, samples, what_failed};

const MINUTE: Duration = Duration::from_secs(60);
/// A short timeout. Half of it is left for the work.
const SHORT: Duration = Duration::from_secs(4);

/// Returns an answer with this code and with an address of this name.
fn records(code: ResponseCode, name: &str) -> Answer {
    Answer::Records(code, vec![(name.to_owned(), "10.0.2.9".parse().unwrap())])
}

#[tokio::test(start_paused = true)]
async fn i1_an_unusable_answer_changes_nothing() {
    let unusable = [
        Answer::NxDomain,
        Answer::Empty,
        Answer::ServFail,
        Answer::Refused,
        Answer::Silent,
        dns::addresses(["2001:db8::1"]),
        dns::cname("nowhere.example.com"),
        records(ResponseCode::NoError, "stranger.example.com"),
        records(ResponseCode::NXDomain, ENDPOINT),
        records(ResponseCode::ServFail, ENDPOINT),
        records(ResponseCode::Unknown(4095), ENDPOINT),
        Answer::Forged(Forgery::Id, Box::new(dns::addresses(["10.0.2.9"]))),
        Answer::Garbage,
    ];
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    for answer in unusable {
        sleep(MINUTE).await;
        world.answer(answer.clone());
        let (error_type, message) = error(&sandbox.schedule().await);
        assert_eq!(error_type, "ResolveFailed", "{answer:?}");
        assert!(
            message.starts_with("cannot resolve redis.example.com: "),
            "{message}"
        );
        assert_eq!(world.changes(), [""; 0], "{answer:?}");
        assert_eq!(world.group(), ["10.0.1.7:6379 healthy"], "{answer:?}");
        assert_eq!(
            world.data(),
            [
                "TargetGroup=targetgroup/redis/0123456789abcdef Failover 0",
                "TargetGroup=targetgroup/redis/0123456789abcdef ReconcileFailure 1",
                "FunctionName=nlb-hostname-target Failover 0",
                "FunctionName=nlb-hostname-target ReconcileFailure 1",
            ],
            "counted: {answer:?}"
        );
    }
}

#[tokio::test]
async fn i1_an_answer_with_a_forbidden_address_is_refused_whole() {
    let world = World::settled("10.0.1.7").await;
    world.answer(dns::addresses(["10.0.2.9", "8.8.8.8"]));
    let (error_type, _) = error(&world.run().await);
    assert_eq!(error_type, "AnswerRefused");
    assert_eq!(world.changes(), [""; 0]);
}

/// Three names feed the group. One is gone for good, and another one moves.
#[tokio::test(start_paused = true)]
async fn i1_where_some_names_fail_the_fresh_targets_of_the_others_are_registered_and_nothing_goes()
{
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    let names = [ENDPOINT, OTHER_ENDPOINT, "gone.example.com"];
    world.follow(names.map(|name| (name, ARN)));
    world.zone.set(OTHER_ENDPOINT, dns::addresses(["10.0.3.3"]));
    world.aws.register(ARN, "10.0.3.3", 6379);
    let function = world.function();
    world.point("10.0.2.9");
    world.aws.take_calls();
    let errors = function.schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "ResolveFailed");
    assert!(errors.to_string().contains("gone.example.com"), "{errors}");
    assert_eq!(world.changes(), ["RegisterTargets 10.0.2.9:6379 Ok"]);
    assert_eq!(samples(&world, "ReconcileFailure"), [1.0]);
    function.schedule().await.unwrap_err();
    assert_eq!(world.changes(), [""; 0], "it is there now");
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke(QUEUE, TIMEOUT).await;
    assert_eq!(result(&answer)["errorType"], "ResolveFailed");
    assert_eq!(result(&answer)["desired"], json!([]), "no good answer");
}

/// Six lookups of one name take longer than an answer may, and the other name has moved.
#[tokio::test(start_paused = true)]
async fn i1_a_slow_name_keeps_no_fresh_target_of_another_away() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.follow([ENDPOINT, OTHER_ENDPOINT].map(|name| (name, ARN)));
    world.set("LOOKUPS_PER_RECONCILE", 6);
    let slow = Box::new(dns::addresses(["10.0.3.3"]));
    let slow = Answer::Late(Duration::from_millis(900), slow);
    world.zone.set(OTHER_ENDPOINT, slow);
    world.point("10.0.2.9");
    let begin = Instant::now();
    let answer = world.run().await;
    assert_eq!(error(&answer).0, "ResolveFailed");
    assert!(begin.elapsed() < Duration::from_secs(6));
    assert_eq!(world.changes(), ["RegisterTargets 10.0.2.9:6379 Ok"]);
}

/// A failed lookup says nothing about the addresses that it would have returned.
#[tokio::test(start_paused = true)]
async fn i1_an_answer_in_part_brings_nothing_back_that_drains() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    world.point("10.0.2.9");
    function.schedule().await.unwrap();
    world.follow([ENDPOINT, "gone.example.com"].map(|name| (name, ARN)));
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let function = world.function();
    world.point("10.0.1.7");
    world.aws.take_calls();
    function.schedule().await.unwrap_err();
    assert_eq!(world.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn i2_register_comes_first_and_deregister_only_after_it_succeeded() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.aws.inject_always("RegisterTargets", UNAVAILABLE);
    let (error_type, _) = error(&world.run().await);
    assert_eq!(error_type, "RegisterFailed");
    assert!(!world.actions().contains(&"DeregisterTargets".to_owned()));
    assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);

    world.aws.heal();
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 10.0.2.9:6379 Ok",
            "DeregisterTargets 10.0.1.7:6379@eu-west-1a Ok"
        ]
    );
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
}

#[tokio::test(start_paused = true)]
async fn i3_an_address_that_comes_back_while_draining_is_registered_again() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    sandbox.schedule().await.outcome.unwrap();
    world.answer(Answer::Addresses {
        ttl: 0,
        addresses: vec!["10.0.1.7".parse().unwrap()],
    });
    let answer = sandbox.schedule().await;
    assert_eq!(
        result(&answer)["reconciles"],
        10,
        "DNS is asked every second"
    );
    let held_back = lines(&sandbox, "held back");
    assert_eq!(held_back.len(), 2, "one line a doubt: {held_back:?}");
    for line in held_back {
        let message = line["message"].as_str().unwrap();
        let next = "this invocation decides at the time in \"until\"";
        assert!(message.ends_with(next), "{message}");
    }
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 initial", "10.0.2.9:6379 draining"]
    );
    world.aws.take_calls();

    sandbox.schedule().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [""; 0],
        "what drains is not deregistered a second time"
    );
}

#[tokio::test]
async fn i3_unhealthy_draining_is_still_registered() {
    let world = World::settled("10.0.1.7").await;
    world.aws.target_group(ARN, |group| {
        group.dictate("10.0.1.7".parse().unwrap(), 6379, "unhealthy.draining");
    });
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [""; 0],
        "the desired one needs no registration"
    );

    world.point("10.0.2.9");
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
}

#[tokio::test(start_paused = true)]
async fn i4_what_is_deregistered_is_passed_back_as_it_was_described() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.aws.settle(ARN, "10.0.1.7", 7000);
    let mut outside = TargetDescription::new("192.168.7.7", 6379);
    outside.zone = Some("all".to_owned());
    let long_ago = Instant::now() - REGISTRATION_LAG;
    world.aws.register_at(long_ago, ARN, outside);
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        ["DeregisterTargets 10.0.1.7:7000@eu-west-1a,192.168.7.7:6379@all Ok"],
        "one address on two ports is two targets"
    );
    assert_eq!(
        world.group(),
        [
            "10.0.1.7:6379 healthy",
            "10.0.1.7:7000 draining",
            "192.168.7.7:6379 draining"
        ]
    );
}

#[tokio::test]
async fn i4_an_address_is_passed_back_as_it_was_written() {
    let world = World::empty().await;
    world.aws.target_group(ARN, |group| {
        group.is_ipv6 = true;
        group.is_written_in_full = true;
    });
    world.aws.settle(ARN, "2001:db8::7", 6379);
    world.answer(dns::addresses(["2001:db8::9"]));
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 2001:db8::9:6379 Ok",
            "DeregisterTargets 2001:0db8:0000:0000:0000:0000:0000:0007:6379@eu-west-1a Ok",
        ]
    );
    let answer = world.run().await;
    assert_eq!(
        result(&answer)["registered"],
        json!([]),
        "2001:0db8:…:0009 is 2001:db8::9"
    );
}

/// The name has moved on by the time the next sandbox starts.
#[tokio::test]
async fn i5_a_new_process_completes_what_another_began() {
    let world = World::settled("10.0.1.7").await;
    world.point("10.0.2.9");
    world.aws.inject_always("DeregisterTargets", UNAVAILABLE);
    assert_eq!(error(&world.run().await).0, "DeregisterFailed");

    world.aws.heal();
    world.point("10.0.3.3");
    let answer = world.run().await;
    assert_eq!(result(&answer)["registered"], json!(["10.0.3.3:6379"]));
    let both = json!(["10.0.1.7:6379", "10.0.2.9:6379"]);
    assert_eq!(result(&answer)["deregistered"], both);
    assert_eq!(result(&answer)["failover"], true);
}

#[tokio::test]
async fn i6_the_same_answer_again_plans_nothing() {
    let world = World::empty().await;
    world.answer(dns::addresses(["10.0.2.9", "10.0.1.7"]));
    world.aws.settle(ARN, "10.0.3.3", 6379);
    let mut sandbox = world.warm_sandbox().await;
    assert_eq!(
        world.group(),
        [
            "10.0.1.7:6379 initial",
            "10.0.2.9:6379 initial",
            "10.0.3.3:6379 draining"
        ]
    );
    for _ in 0..3 {
        let answer = sandbox.schedule().await;
        assert_eq!(
            result(&answer)["desired"],
            json!(["10.0.1.7:6379", "10.0.2.9:6379"])
        );
        assert_eq!(world.changes(), [""; 0]);
    }
}

#[tokio::test]
async fn i7_an_answer_is_never_replayed_from_an_earlier_reconcile() {
    let world = World::settled("10.0.1.7").await;
    let mut sandbox = world.warm_sandbox().await;
    world.answer(Answer::Addresses {
        ttl: 3600,
        addresses: vec!["10.0.1.7".parse().unwrap()],
    });
    for address in ["10.0.2.9", "10.0.1.7", "10.0.2.9"] {
        sandbox.schedule().await.outcome.unwrap();
        let addresses = vec![address.parse().unwrap()];
        world.answer(Answer::Addresses {
            ttl: 3600,
            addresses,
        });
        let answer = sandbox.schedule().await;
        assert_eq!(
            result(&answer)["desired"],
            json!([format!("{address}:6379")])
        );
    }
    assert_eq!(
        world.zone.take_asked().len(),
        6,
        "asked once for each reconcile"
    );
}

#[tokio::test]
async fn i9_a_group_that_fails_ends_the_invocation_in_error_after_all_were_tried() {
    let mut world = World::settled("10.0.1.7").await;
    world.add_other();
    world.answer(Answer::NxDomain);
    let mut sandbox = world.sandbox().await;
    let (error_type, message) = error(&sandbox.schedule().await);
    assert_eq!(error_type, "ResolveFailed");
    assert!(message.contains(ENDPOINT), "{message}");
    assert_eq!(
        world.aws.summary(OTHER_ARN),
        ["10.0.3.3:6380 initial"],
        "the other one was served"
    );

    let failed = lines(&sandbox, "reconcile failed");
    let [failed] = &failed[..] else {
        panic!("one line for each failed reconcile: {failed:?}")
    };
    assert_eq!(
        (
            &failed["level"],
            what_failed(failed["errorMessage"].as_str().unwrap())
        ),
        (&json!("ERROR"), message)
    );
}

#[tokio::test(start_paused = true)]
async fn i10_what_cannot_be_published_is_kept_and_undoes_nothing() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.aws.inject_always("PutMetricData", UNAVAILABLE);
    world.point("10.0.2.9");
    let (error_type, message) = error(&sandbox.schedule().await);
    assert_eq!(error_type, "PublishFailed");
    assert_eq!(
        message,
        "cannot publish 6 metric data to NlbHostnameTarget: ServiceUnavailable: try later"
    );
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );

    let healed = world.clock.now();
    sleep(Duration::from_secs(1)).await;
    world.aws.heal();
    sandbox.schedule().await.outcome.unwrap();
    let data = world.aws.take_data();
    let failovers: Vec<_> = data
        .iter()
        .filter(|datum| datum.metric == "Failover" && datum.dimensions[0].0 == "FunctionName")
        .collect();
    let values: Vec<_> = failovers.iter().map(|datum| datum.value()).collect();
    assert_eq!(values, [1.0, 0.0], "the failover, then the quiet reconcile");
    let is_earlier: Vec<_> = failovers
        .iter()
        .map(|datum| datum.timestamp < healed)
        .collect();
    assert_eq!(is_earlier, [true, false], "each with its own timestamp");
}

#[tokio::test(start_paused = true)]
async fn i10_what_the_deadline_cuts_off_is_kept_too() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.add_other();
    world.aws.settle(OTHER_ARN, "10.0.3.3", PORT + 1);
    let sandbox = world.function();
    sandbox.schedule().await.unwrap();
    world.aws.take_data();
    world.aws.inject_always("PutMetricData", Fault::Hang);
    world.point("10.0.2.9");
    let other = Answer::Late(
        Duration::from_millis(300),
        Box::new(dns::addresses(["10.0.3.3"])),
    );
    world.zone.set(OTHER_ENDPOINT, other);
    let errors = sandbox.invoke_within("{}", SHORT).await.unwrap_err();
    assert_eq!(errors.error_type(), "PublishFailed");
    assert_eq!(
        what_failed(&errors.to_string()),
        "cannot publish 9 metric data to NlbHostnameTarget: the invocation ran out of time",
        "the failover's six, and three of the function while they hung"
    );

    world.aws.heal();
    sandbox.schedule().await.unwrap();
    assert_eq!(samples(&world, "Failover"), [1.0, 0.0, 0.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn i10_a_hanging_cloudwatch_costs_its_time_twice_at_most() {
    let mut world = World::empty_in_memory();
    for arn in world.feed(8) {
        world.aws.settle(&arn, "10.0.1.7", 6379);
    }
    world.point("10.0.2.9");
    world.aws.inject_always("PutMetricData", Fault::Hang);
    let answer = world.run().await;
    assert_eq!(error(&answer).0, "PublishFailed");
    assert!(
        answer.took < Duration::from_secs(20),
        "took {:?}",
        answer.took
    );
}

#[tokio::test(start_paused = true)]
async fn i11_what_was_acknowledged_before_the_deadline_is_told() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    world.aws.inject_always("DeregisterTargets", Fault::Hang);
    let mut sandbox = world.sandbox().await;
    let answer = sandbox.invoke("{}", SHORT).await;
    assert_eq!(error(&answer).0, "DeadlineExceeded");
    let group = &lines(&sandbox, "result")[0]["targetGroups"][0];
    assert_eq!(group["registered"], json!(["10.0.2.9:6379"]));
    assert_eq!(group["deregistered"], json!([]));
    assert_eq!(group["reconciles"], 1);
}

#[tokio::test(start_paused = true)]
async fn i11_a_group_that_gets_no_turn_before_the_deadline_is_counted_and_comes_first_next_time() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.feed(60);
    let function = world.function();
    let mut served = BTreeSet::new();
    for _ in 0..2 {
        // 2 s are enough for 16 registrations, and for 3 or 4 more.
        let report = function.invoke_within("{}", SHORT).await.unwrap();
        let unsent = report.target_groups.iter().filter(|group| group.is_unsent);
        let unsent = unsent.count();
        let groups = report.target_groups.into_iter();
        let registered = groups.filter(|group| !group.registered.is_empty());
        let before = served.len();
        served.extend(registered.map(|group| group.target_group_arn));
        let now = served.len() - before;
        assert!(
            (16..=20).contains(&now),
            "{now}: those that were unsent come first"
        );
        let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
        assert_eq!(failures as usize, unsent);
    }
}

#[tokio::test(start_paused = true)]
async fn i11_a_group_whose_call_was_sent_in_vain_is_no_group_that_got_no_turn() {
    for fault in [Fault::Error(500, "InternalFailure", "try later"), THROTTLED] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.feed(60);
        world.aws.inject_always("RegisterTargets", fault);
        let function = world.function();
        let errors = function.invoke_within("{}", SHORT).await.unwrap_err();
        let calls = world.aws.take_calls().into_iter();
        let sent = calls.filter(|call| call.action == "RegisterTargets");
        let sent: BTreeSet<_> = sent.map(|call| call.resource).collect();
        assert!((2..60).contains(&sent.len()), "{}", sent.len());
        assert_eq!(errors.iter().count(), sent.len(), "{errors}");
    }
}

/// Moves the endpoint, and makes every call of this action hang, or all of DNS.
pub fn hang(world: &World, action: &str) {
    world.point("10.0.2.9");
    match action {
        "DNS" => world.answer(Answer::Silent),
        action => world.aws.inject_always(action, Fault::Hang),
    }
}

#[tokio::test]
async fn i11_whatever_hangs_the_answer_comes_before_the_timeout() {
    let cut = |step: &str| {
        let message = format!("the invocation ran out of time while {step} {ARN}");
        ("DeadlineExceeded".to_owned(), message)
    };
    let unpublished =
        "cannot publish 6 metric data to NlbHostnameTarget: the invocation ran out of time";
    let unpublished = ("PublishFailed".to_owned(), unpublished.to_owned());
    let hangs = [
        ("DescribeTargetGroups", cut("describing the target group")),
        ("DescribeTargetHealth", cut("describing the targets of")),
        ("DNS", cut("resolving the endpoints of")),
        ("RegisterTargets", cut("registering in")),
        ("DeregisterTargets", cut("deregistering from")),
        ("PutMetricData", unpublished),
    ];
    let hangs_in = async |(action, expected): (&str, (String, String))| {
        let world = World::settled("10.0.1.7").await;
        hang(&world, action);
        let answer = world.sandbox().await.invoke("{}", SHORT).await;
        assert_eq!(error(&answer), expected, "{action}");
        assert!(answer.took < SHORT, "{action} took {:?}", answer.took);
    };
    futures_util::future::join_all(hangs.map(hangs_in)).await;
}

/// This runs over sockets. A query, a handshake and a call get no answer. The call is sent again.
#[tokio::test]
async fn i11_a_peer_that_says_nothing_is_not_waited_for() {
    let world = async || {
        let world = World::settled("10.0.1.7").await;
        world.point("10.0.2.9");
        world
    };
    let query = async {
        let world = world().await;
        world.answer(Answer::Silent);
        world.run().await
    };
    let handshake = async {
        let mut world = world().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let variable = "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2";
        world.set(variable, format!("https://localhost:{port}"));
        world.run().await
    };
    let call = async {
        let world = world().await;
        world.aws.inject("RegisterTargets", Fault::Hang);
        world.run().await
    };
    let (query, handshake, call) = join!(query, handshake, call);
    for (answer, error_type, cause) in [
        (&query, "ResolveFailed", "did not answer"),
        (
            &handshake,
            "DescribeFailed",
            "connect timeout occurred after 1s",
        ),
    ] {
        let (is, message) = error(answer);
        assert_eq!(is, error_type);
        assert!(message.contains(cause), "{message}");
    }
    assert_eq!(result(&call)["failover"], true);
    for answer in [query, handshake, call] {
        assert!(answer.took < Duration::from_secs(5), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn i11_every_single_wait_ends_by_itself() {
    let hangs = [
        ("DescribeTargetGroups", "DescribeFailed"),
        ("DescribeTargetHealth", "DescribeFailed"),
        ("RegisterTargets", "RegisterFailed"),
        ("DeregisterTargets", "DeregisterFailed"),
        ("PutMetricData", "PublishFailed"),
        ("DNS", "ResolveFailed"),
    ];
    let hangs_in = async |(action, expected): (&str, &str)| {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        hang(&world, action);
        let answer = world.run().await;
        let (error_type, message) = error(&answer);
        assert_eq!(error_type, expected, "{action}: {message}");
        assert!(
            answer.took < Duration::from_secs(15),
            "{action} took {:?}",
            answer.took
        );
    };
    futures_util::future::join_all(hangs.map(hangs_in)).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_uses_drains_at_once_and_is_followed_all_the_same() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world
        .aws
        .target_group(ARN, |group| group.load_balancer = None);
    world.point("10.0.2.9");
    world.run().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.2.9:6379 unused"]);
}
