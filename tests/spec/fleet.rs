//! Target groups that are found by their tag (section 9 of the contract).

use nlb_hostname_target::report::Report;
use stand_in::aws::Fault;
use stand_in::dns::{Answer, addresses};
use stand_in::elb::TargetGroup;
use stand_in::fleet::{self, GROUPS, tag};
use stand_in::lambda::SCHEDULE;
use stand_in::world::{ARN, ENDPOINT, Function, OTHER_ARN, PORT, World, group_arn, own_endpoint};
use tokio::time::{Instant, sleep};

use serde_json::Value;

use crate::reading::{DENIED, error, log, result, samples, seconds, targets};

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const FLEET: &str = "nlb-hostname-target/fleet";
const ENDPOINTS: &str = "nlb-hostname-target/endpoints";

/// Makes a world whose function follows a fleet, and no configured group. One group is tagged.
async fn one() -> World {
    let mut world = World::settled_in_memory(A, 5).await;
    fleet::follow(&mut world);
    tag(&world, ARN, ENDPOINT);
    world
}

/// Makes a fleet of this many groups. Each has a name of its own at `A`, where its one target is.
async fn many(groups: usize) -> World {
    let mut world = World::settled_in_memory(A, 5).await;
    fleet::settle(&mut world, groups);
    world
}

/// Invokes the function a minute after the last time. Returns its report.
async fn later(function: &Function) -> Report {
    sleep(seconds(60)).await;
    function.schedule().await.unwrap()
}

fn arns(report: &Report) -> Vec<&str> {
    let groups = report.target_groups.iter();
    groups
        .map(|group| group.target_group_arn.as_str())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_is_followed_while_it_is_tagged() {
    let world = one().await;
    let function = world.function();
    let report = later(&function).await;
    assert_eq!(
        (arns(&report), report.target_groups[0].reconciles),
        (vec![ARN], 1)
    );
    world.point(B);
    let report = later(&function).await;
    assert_eq!(
        targets(&report.target_groups[0].registered),
        [format!("{B}:{PORT}")]
    );
    assert!(report.target_groups[0].failover);
    world.aws.untag(ARN);
    world.point(A);
    world.aws.take_calls();
    assert_eq!(arns(&later(&function).await), [""; 0]);
    assert_eq!(world.actions(), ["GetResources"]);
    assert!(world.group().contains(&format!("{B}:{PORT} initial")));
}

#[tokio::test(start_paused = true)]
async fn only_the_tags_value_of_this_deployment_counts() {
    let world = one().await;
    for other in ["Redis", "redis2", ""] {
        world.aws.tag(ARN, [(FLEET, other), (ENDPOINTS, ENDPOINT)]);
        assert_eq!(arns(&world.function().schedule().await.unwrap()), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_has_the_settings_of_its_tags_and_otherwise_those_of_the_variables() {
    let mut world = one().await;
    world.set("TARGET_PORT", 7000);
    let of_tags = [
        (FLEET, "redis"),
        (ENDPOINTS, ENDPOINT),
        ("nlb-hostname-target/port", "7001"),
        ("nlb-hostname-target/lookups", "3"),
        ("nlb-hostname-target/misses", "2"),
    ];
    world.aws.tag(ARN, of_tags);
    world.aws.add(TargetGroup::ipv4(OTHER_ARN, PORT));
    tag(&world, OTHER_ARN, ENDPOINT);
    let function = world.function();
    let report = function.schedule().await.unwrap();
    let desired: Vec<_> = report
        .target_groups
        .iter()
        .map(|group| (group.target_group_arn.as_str(), targets(&group.desired)))
        .collect();
    assert_eq!(
        desired,
        [
            (OTHER_ARN, vec![format!("{A}:7000")]),
            (ARN, vec![format!("{A}:7001")])
        ]
    );
    assert_eq!(world.zone.take_asked().len(), 3 + 1);
    // The target of one group may miss answers, and that of the other may not.
    world.point(B);
    let report = later(&function).await;
    let deregistered: Vec<_> = report
        .target_groups
        .iter()
        .map(|group| targets(&group.deregistered))
        .collect();
    assert_eq!(deregistered, [vec![format!("{A}:7000")], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn several_names_feed_a_group() {
    let world = one().await;
    world.zone.set("second.example.com", addresses([B]));
    tag(&world, ARN, &format!("{ENDPOINT} second.example.com"));
    let report = world.function().schedule().await.unwrap();
    let expected = [format!("{A}:{PORT}"), format!("{B}:{PORT}")];
    assert_eq!(targets(&report.target_groups[0].desired), expected);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_cannot_be_read_stops_its_own_group_alone_and_is_no_error() {
    for (key, value, expected) in [
        (
            ENDPOINTS,
            "",
            "is not set: expected different host names, separated by spaces",
        ),
        (
            ENDPOINTS,
            "a b a",
            "is \"a b a\": expected different host names, separated by spaces",
        ),
        (
            ENDPOINTS,
            "10.0.1.7",
            "is \"10.0.1.7\": expected different host names, separated by spaces",
        ),
        (
            "nlb-hostname-target/port",
            "0",
            "is \"0\": expected a port from 1 to 65535",
        ),
        (
            "nlb-hostname-target/lookups",
            "33",
            "is \"33\": expected a number from 1 to 32",
        ),
        (
            "nlb-hostname-target/misses",
            "-1",
            "is \"-1\": expected a number from 0 to 1000",
        ),
    ] {
        let world = one().await;
        world.aws.add(TargetGroup::ipv4(OTHER_ARN, PORT));
        let good = [(FLEET, "redis"), (ENDPOINTS, ENDPOINT)];
        let bad = good.into_iter().filter(|(name, _)| *name != key);
        world.aws.tag(OTHER_ARN, bad.chain([(key, value)]));
        let mut sandbox = world.sandbox().await;
        let answer = sandbox.schedule().await;
        assert_eq!(result(&answer)["targetGroupArn"], ARN);
        let mut lines = log(&sandbox);
        lines.retain(|line| line["level"] == "ERROR");
        assert_eq!(lines.len(), 1, "{lines:?}");
        let message = lines[0]["message"].as_str().unwrap();
        let expected = format!("cannot follow {OTHER_ARN}: {key} {expected}");
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(lines[0]["errorType"], "TagInvalid");
        assert_eq!(world.aws.summary(OTHER_ARN), [""; 0]);
        let data = world.aws.take_data();
        let invalid: Vec<_> = data
            .iter()
            .filter(|datum| datum.metric == "TagInvalid")
            .collect();
        assert_eq!(invalid.len(), 2, "{invalid:?}");
        let mut failures = data
            .iter()
            .filter(|datum| datum.metric == "ReconcileFailure");
        assert!(failures.all(|datum| datum.samples == [0.0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_leaves_the_last_whole_one() {
    let world = one().await;
    let function = world.function();
    later(&function).await;
    world.point(B);
    world.aws.take_data();
    for fault in [
        DENIED,
        Fault::Error(500, "InternalServiceException", "oops"),
        Fault::Garbage(200, "<html>"),
        Fault::Garbage(200, "{}"),
        Fault::Hang,
    ] {
        world.aws.inject_always("GetResources", fault.clone());
        sleep(seconds(60)).await;
        let errors = function.schedule().await.unwrap_err();
        assert_eq!(errors.error_type(), "DiscoverFailed", "{fault:?}");
        let message = errors.to_string();
        assert!(
            message.contains("cannot list the fleet \"redis\""),
            "{message}"
        );
        assert_eq!(samples(&world, "ReconcileFailure"), [0.0, 1.0], "{fault:?}");
        world.aws.heal();
    }
    // It was followed all the time.
    assert!(world.group().iter().any(|target| target.starts_with(B)));
    // A sandbox without a list follows nothing, and says so.
    world.aws.inject("GetResources", DENIED);
    let errors = world.function().schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "DiscoverFailed");
    later(&function).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_has_all_pages_or_none() {
    let world = many(250).await;
    let function = world.function();
    let report = function.schedule().await.unwrap();
    assert_eq!(report.target_groups.len(), 250);
    let mut sorted = arns(&report);
    sorted.sort_unstable();
    assert_eq!(arns(&report), sorted);
    world.aws.take_calls();
    // The third page fails for good.
    let fault = Fault::Error(400, "PaginationTokenExpiredException", "expired");
    world
        .aws
        .inject_where("GetResources", Some("200"), fault, None);
    let cold = world.function();
    let errors = cold.schedule().await.unwrap_err();
    assert!(
        errors.to_string().contains("PaginationTokenExpired"),
        "{errors}"
    );
    let calls = world.aws.take_calls();
    let calls = calls
        .iter()
        .filter(|call| call.action.starts_with("Describe"));
    assert_eq!(calls.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn configured_groups_do_not_wait_for_the_list_and_win_over_it() {
    let mut world = one().await;
    world.follow([(ENDPOINT, ARN)]);
    tag(&world, ARN, "other.example.com");
    world.point(B);
    world.aws.inject("GetResources", Fault::Latency(seconds(5)));
    let begin = Instant::now();
    let report = world.function().schedule().await.unwrap();
    assert_eq!(arns(&report), [ARN]);
    assert_eq!(report.target_groups[0].endpoints, [ENDPOINT]);
    let registered = world.times(begin, "RegisterTargets");
    assert!(registered[0] < 1.0, "{registered:?}");
}

/// Whoever followed the names from before would undo what another sandbox does by the new ones.
#[tokio::test(start_paused = true)]
async fn a_group_is_left_alone_until_two_lists_in_a_row_have_the_same_names() {
    let world = one().await;
    world.zone.set("second.example.com", addresses([B]));
    let function = world.function();
    let endpoints = async || {
        let report = later(&function).await;
        let mut groups = report.target_groups.into_iter();
        groups.next().map(|group| group.endpoints)
    };
    let [first, second] = [ENDPOINT, "second.example.com"].map(|name| Some(vec![name.to_owned()]));
    assert_eq!(endpoints().await, first);
    let before = world.group();
    // Two lists disagree, and take turns.
    for _ in 0..3 {
        tag(&world, ARN, "second.example.com");
        assert_eq!(endpoints().await, None);
        tag(&world, ARN, ENDPOINT);
        assert_eq!(endpoints().await, None);
    }
    assert_eq!(world.group(), before);
    let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
    assert_eq!(failures, 6.0);
    assert_eq!(endpoints().await, first);
    // The other settings come with the names.
    let of_second = [
        (FLEET, "redis"),
        (ENDPOINTS, "second.example.com"),
        ("nlb-hostname-target/port", "6380"),
    ];
    world.aws.tag(ARN, of_second);
    assert_eq!(endpoints().await, None);
    assert_eq!(world.group(), before);
    assert_eq!(endpoints().await, second);
    assert!(world.group().contains(&format!("{B}:6380 initial")));
    // A tag that could not be read is no list of names.
    tag(&world, ARN, "10.0.0.1");
    assert_eq!(endpoints().await, None);
    tag(&world, ARN, ENDPOINT);
    assert_eq!(endpoints().await, None);
    assert_eq!(endpoints().await, first);
}

/// They stop before they need a read, and may not take the turns of the others.
#[tokio::test(start_paused = true)]
async fn groups_whose_names_cannot_be_resolved_do_not_stop_the_sweep() {
    let world = many(200).await;
    let function = world.function();
    for _ in 0..5 {
        later(&function).await;
    }
    for index in 0..100 {
        world.zone.set(&own_endpoint(index), Answer::NxDomain);
    }
    let mut described = std::collections::BTreeSet::new();
    for _ in 0..4 {
        sleep(seconds(60)).await;
        world.aws.take_calls();
        function.schedule().await.unwrap_err();
        let calls = world.aws.take_calls().into_iter();
        let calls = calls.filter(|call| call.action == "DescribeTargetHealth");
        described.extend(calls.map(|call| call.resource));
    }
    assert_eq!(described.len(), 100);
}

/// Nobody who may tag a group can stop the others with it.
#[tokio::test(start_paused = true)]
async fn a_group_with_too_many_lookups_is_left_out_alone() {
    let world = many(3).await;
    let names = "a b c d e f g h i j k l m n o p q r s t u v w x y z aa bb cc dd ee ff";
    let greedy = [
        (FLEET, "redis"),
        (ENDPOINTS, names),
        ("nlb-hostname-target/lookups", "32"),
    ];
    world.aws.tag(&group_arn(0), greedy);
    let mut sandbox = world.sandbox().await;
    let outcome = sandbox.schedule().await.outcome;
    let error = outcome.unwrap_err();
    assert_eq!(error["errorType"], "DiscoverFailed");
    let calls = world.aws.take_calls();
    let described = calls
        .iter()
        .filter(|call| call.action == "DescribeTargetHealth");
    assert_eq!(described.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_that_finds_no_group_of_the_fleet_is_no_success() {
    let world = one().await;
    // The list may name a group that was deleted.
    world.aws.remove(ARN);
    for listed in [vec![ARN], vec![]] {
        let dry_run = world.function().invoke(r#"{"dryRun": true}"#).await;
        let errors = dry_run.unwrap_err();
        assert_eq!(errors.error_type(), "DiscoverFailed");
        let text = errors.to_string();
        assert!(text.contains("no target group that can be followed"));
        assert_eq!(arns(&world.function().schedule().await.unwrap()), listed);
        world.aws.untag(ARN);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_group_that_does_not_exist_is_no_failure() {
    let world = one().await;
    let function = world.function();
    later(&function).await;
    tag(&world, OTHER_ARN, ENDPOINT);
    world.aws.take_data();
    // One never existed for this sandbox, and the other one did.
    for remaining in [vec![ARN], vec![]] {
        if remaining.is_empty() {
            world.aws.remove(ARN);
        }
        let report = later(&function).await;
        let settled = report
            .target_groups
            .iter()
            .filter(|group| !group.desired.is_empty());
        let settled: Vec<_> = settled
            .map(|group| group.target_group_arn.as_str())
            .collect();
        assert!(
            report
                .target_groups
                .iter()
                .all(|group| group.errors.is_none())
        );
        assert!(
            remaining.iter().all(|arn| settled.contains(arn)),
            "{settled:?}"
        );
        assert!(
            samples(&world, "ReconcileFailure")
                .iter()
                .all(|value| *value == 0.0)
        );
    }
    // A configured group that does not exist is a failure.
    let mut configured = one().await;
    configured.follow([(ENDPOINT, ARN)]);
    configured.aws.remove(ARN);
    let errors = configured.function().schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "TargetGroupInvalid");
}

#[tokio::test(start_paused = true)]
async fn of_a_fleet_that_is_too_large_the_first_groups_are_followed() {
    let world = many(503).await;
    let errors = world.function().schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "DiscoverFailed");
    let message = errors.to_string();
    assert!(
        message.contains("cannot follow 503 target groups"),
        "{message}"
    );
    assert!(message.contains("only 500 are followed"), "{message}");
    let described = world.aws.take_calls();
    let last = group_arn(500);
    assert!(!described.iter().any(|call| call.resource.contains(&last)));

    let mut slow = many(40).await;
    slow.set("LOOKUPS_PER_RECONCILE", 32);
    let errors = slow.function().schedule().await.unwrap_err();
    assert!(
        errors.to_string().contains("only 31 are followed"),
        "{errors}"
    );
}

/// An invocation has 70 reads in its first 10 s, so 500 groups are described within 8 invocations.
#[tokio::test(start_paused = true)]
async fn settled_groups_are_swept() {
    for (groups, invocations) in [(70, 1), (71, 2), (500, 8)] {
        let world = many(groups).await;
        let function = world.function();
        // All are described until none is unknown.
        for _ in 0..10 {
            later(&function).await;
        }
        for _ in 0..3 {
            world.aws.take_calls();
            let mut described = std::collections::BTreeMap::new();
            for _ in 0..invocations {
                later(&function).await;
                let calls = world.aws.take_calls();
                let calls = calls
                    .into_iter()
                    .filter(|call| call.action == "DescribeTargetHealth");
                let calls: Vec<_> = calls.map(|call| call.resource).collect();
                assert!(calls.len() <= 70, "{groups} groups: {}", calls.len());
                for arn in calls {
                    *described.entry(arn).or_insert(0) += 1;
                }
            }
            assert_eq!(described.len(), groups);
        }
    }
}

/// The contract's first row: one of 500 settled groups moves.
#[tokio::test(start_paused = true)]
async fn an_invocation_without_time_for_all_groups_ends_without_error() {
    let world = many(GROUPS).await;
    // A call that were sent in the last second would be cut off.
    world.aws.set_latency(seconds(1) * 9 / 10);
    let report = world.function().schedule().await.unwrap();
    let groups = report.target_groups.iter();
    let left = groups.filter(|group| group.is_unsent).count();
    assert!((100..250).contains(&left), "{left} groups");
}

#[tokio::test(start_paused = true)]
async fn one_of_500_groups_that_moves_is_registered_within_4_seconds() {
    let world = many(GROUPS).await;
    let mut sandbox = fleet::warm(&world).await;
    for index in [0, 250, 499] {
        sleep(seconds(60)).await;
        let played = fleet::one_moves(&world, &mut sandbox, index).await;
        let took = played.begin.elapsed();
        assert!(took < seconds(20), "{took:?}");
        let described = played.count("DescribeTargetHealth");
        assert!(described <= 80, "{described}");
        assert_eq!(played.count("DescribeTargetGroups"), 0);
        let registered = played.slowest_register();
        assert!(registered < seconds(4), "{registered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_lists_the_fleet_and_remembers_nothing() {
    let world = one().await;
    let function = world.function();
    later(&function).await;
    world.point(B);
    tag(&world, ARN, "second.example.com");
    let before = world.group();
    // The names of this list are other ones, so the dry run looks at nothing.
    function.invoke(r#"{"dryRun": true}"#).await.unwrap_err();
    tag(&world, ARN, ENDPOINT);
    let report = function.invoke(r#"{"dryRun": true}"#).await.unwrap();
    let registered = targets(&report.target_groups[0].registered);
    assert_eq!(registered, [format!("{B}:{PORT}")]);
    assert_eq!(world.group(), before);
    // The list of the dry run does not count: the next one is the first to have another name.
    let report = later(&function).await;
    assert_eq!(report.target_groups[0].endpoints, [ENDPOINT]);
}

#[tokio::test]
async fn discover_failed_and_tag_invalid() {
    let mut world = World::settled(A).await;
    world.set("FLEET", "redis");
    world.set("ALLOWED_CIDRS", "10.0.0.0/8");
    tag(&world, OTHER_ARN, "10.0.0.1");
    let mut process = world.process().await;
    process.schedule().await;
    let lines: Vec<Value> = process
        .log()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        lines.iter().any(|line| line["errorType"] == "TagInvalid"),
        "{lines:?}"
    );
    world.aws.inject_always("GetResources", DENIED);
    let answer = process.schedule().await;
    let (error_type, message) = error(&answer);
    assert_eq!(error_type, "DiscoverFailed");
    assert!(message.contains("AccessDenied"), "{message}");
}

/// The contract's second row: a zone is lost, and a third of the fleet moves at once.
#[tokio::test(start_paused = true)]
async fn a_third_of_500_groups_that_moves_at_once_has_moved_within_170_seconds() {
    for draw in 0..2 {
        fastrand::seed(draw);
        let world = many(GROUPS).await;
        let mut sandboxes = Vec::new();
        for _ in 0..3 {
            sandboxes.push(fleet::warm(&world).await);
        }
        sleep(seconds(60)).await;
        let played = fleet::a_third_moves(&world, &mut sandboxes).await;
        let registered = played.slowest_register();
        assert!(registered <= seconds(75), "draw {draw}: {registered:?}");
        let deregistered = played.last_deregister();
        assert!(
            deregistered <= seconds(170),
            "draw {draw}: {deregistered:?}"
        );
        let share = played.refused_share();
        assert!(share <= 0.05, "draw {draw}: {share}");
    }
}

/// It ends by itself, which the stand-in asserts, and still follows the groups that are configured.
#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_does_not_keep_a_short_invocation() {
    let mut world = one().await;
    world.follow([(ENDPOINT, ARN)]);
    world.point(B);
    world.aws.inject_always("GetResources", Fault::Hang);
    let outcome = world.function().invoke_within(SCHEDULE, seconds(3)).await;
    assert_eq!(outcome.unwrap_err().error_type(), "DiscoverFailed");
    assert!(world.group().contains(&format!("{B}:{PORT} initial")));
}
