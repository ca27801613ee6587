//! Tests one reconcile: what it registers and deregisters, and what users see of it.

use std::time::Duration;

use serde_json::json;
use stand_in::aws::Fault;
use stand_in::world::{ARN, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, World};
use tokio::time::sleep;

use crate::reading::{DENIED, THROTTLED, UNAVAILABLE, error, first, result, samples};

#[tokio::test]
async fn the_first_registration_is_no_failover() {
    let world = World::empty().await;
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

#[tokio::test(start_paused = true)]
async fn a_failover_is_counted_once_also_when_its_deregistration_failed_first() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let mut sandbox = world.warm_sandbox().await;
    world.point("10.0.2.9");
    world
        .aws
        .inject_where("DeregisterTargets", None, DENIED, Some(2));
    for _ in 0..2 {
        assert_eq!(error(&sandbox.schedule().await).0, "DeregisterFailed");
    }
    for failover in [true, false] {
        assert_eq!(result(&sandbox.schedule().await)["failover"], failover);
    }
    // A minute may end between any two of these reconciles.
    let values = samples(&world, "Failover");
    // Two reconciles fail, and DNS is asked for 13.5 s until the removal is believed.
    assert_eq!(values.iter().position(|value| *value > 0.0), Some(16));
    assert_eq!((values.len(), values.iter().sum()), (18, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_changed_port_is_no_failover() {
    let world = World::empty_in_memory();
    world.point("10.0.1.7");
    world.aws.settle(ARN, "10.0.1.7", 7000);
    let answer = world.run().await;
    assert_eq!(result(&answer)["registered"], json!(["10.0.1.7:6379"]));
    assert_eq!(result(&answer)["deregistered"], json!(["10.0.1.7:7000"]));
    assert_eq!(result(&answer)["failover"], false);
}

#[tokio::test(start_paused = true)]
async fn several_endpoints_feed_one_group_and_one_feeds_several() {
    let mut world = World::two_in_memory().await;
    world.set(
        "ENDPOINTS",
        format!("{ENDPOINT},{OTHER_ENDPOINT},{OTHER_ENDPOINT}"),
    );
    world.set(
        "TARGET_GROUP_ARNS",
        format!("{OTHER_ARN},{ARN},{OTHER_ARN}"),
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

#[tokio::test(start_paused = true)]
async fn the_target_port_can_be_set() {
    let mut world = World::empty_in_memory();
    world.point("10.0.1.7");
    world.set("TARGET_PORT", "6380");
    world.run().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.1.7:6380 initial"]);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_deregisters_200_targets_in_a_call_and_all_of_them_are_one_failover() {
    let world = World::empty_in_memory();
    world.point("10.0.0.1");
    for (third, last) in (1..=2).flat_map(|third| (0..250).map(move |last| (third, last))) {
        world.aws.settle(ARN, &format!("10.0.{third}.{last}"), 6379);
    }
    let mut sandbox = world.sandbox().await;
    world.aws.inject_always("DeregisterTargets", DENIED);
    assert_eq!(error(&sandbox.schedule().await).0, "DeregisterFailed");
    world.aws.heal();
    world.aws.take_calls();
    let answer = sandbox.schedule().await;
    assert_eq!(result(&answer)["failover"], true);
    let calls = world.aws.take_calls();
    let calls = calls
        .iter()
        .filter(|call| call.action == "DeregisterTargets");
    let sizes: Vec<_> = calls.map(|call| call.targets.len()).collect();
    assert_eq!(sizes, [200, 200, 100]);
    assert_eq!(samples(&world, "Failover").iter().sum::<f64>(), 1.0);
}

/// A new target takes the load balancer minutes. That does not count as an incident.
#[tokio::test(start_paused = true)]
async fn no_healthy_target_is_about_targets_that_the_name_is_at_and_that_are_not_new() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let function = world.function();
    let [a, b] = ["10.0.1.7", "10.0.2.9"];
    let dictate = |address: &str, state| {
        world.aws.target_group(ARN, |group| {
            group.dictate(address.parse().unwrap(), 6379, state);
        });
    };
    for (what, change, expected) in [
        ("healthy", None, 0.0),
        ("the new one is registered", Some((b, None)), 0.0),
        ("the new one is initial", None, 0.0),
        ("unhealthy", Some((b, Some("unhealthy"))), 1.0),
        ("in no use", Some((b, Some("unused"))), 1.0),
        ("unavailable", Some((b, Some("unavailable"))), 1.0),
        (
            "draining and unhealthy",
            Some((b, Some("unhealthy.draining"))),
            1.0,
        ),
        ("healthy again", Some((b, Some("healthy"))), 0.0),
        // The old one is described as unhealthy, and the new one is not described yet.
        (
            "a failover from a target that is unhealthy",
            Some((a, None)),
            0.0,
        ),
    ] {
        match change {
            Some((address, Some(state))) => dictate(address, state),
            Some((address, None)) => {
                // The drain of the earlier failover is over by then.
                sleep(Duration::from_secs(300)).await;
                world.point(address);
            }
            None => (),
        }
        first(function.schedule().await);
        assert_eq!(samples(&world, "NoHealthyTarget"), [expected], "{what}");
        sleep(Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_has_three_attempts_of_its_own() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("10.0.2.9");
    for action in [
        "DescribeTargetHealth",
        "RegisterTargets",
        "DeregisterTargets",
    ] {
        world.aws.inject_where(action, None, UNAVAILABLE, Some(2));
    }
    let function = world.function();
    assert!(first(function.schedule().await).failover);
    for attempts in [2, 3] {
        let action = "DescribeTargetHealth";
        world
            .aws
            .inject_where(action, None, UNAVAILABLE, Some(attempts));
        let is_failed = function.schedule().await.is_err();
        assert_eq!(is_failed, attempts == 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_throttled_or_whose_answer_was_lost_is_tried_again_within_the_reconcile() {
    for (action, fault) in [
        ("DescribeTargetHealth", &THROTTLED),
        ("RegisterTargets", &THROTTLED),
        ("RegisterTargets", &Fault::LostAnswer),
        ("DeregisterTargets", &THROTTLED),
        ("DeregisterTargets", &Fault::LostAnswer),
        ("PutMetricData", &THROTTLED),
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        world.aws.inject(action, fault.clone());
        world.run().await.outcome.unwrap();
        let moved = ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"];
        assert_eq!(world.group(), moved, "{action} {fault:?}");
    }
}
