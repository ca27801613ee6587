//! Elastic Load Balancing is asked only where something may have changed, and DNS is asked every time (section 1 of the
//! contract).

use std::time::Duration;

use stand_in::dns::{self, Answer};
use stand_in::world::{ARN, Function, World};
use tokio::join;
use tokio::time::{Instant, sleep};

use crate::reading::{DENIED, first, samples, seconds, targets};

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";

/// Makes a group that polls once a second for this many seconds, in a sandbox that knows it.
async fn polling(ttl: u32, length: u64) -> (World, Function) {
    let mut world = World::settled_in_memory(A, ttl).await;
    world.set("SCHEDULE_POLL_SECONDS", length);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let function = world.function();
    function.schedule().await.unwrap();
    world.aws.take_calls();
    world.zone.take_asked();
    (world, function)
}

/// Returns the times at which the group was described, in seconds since `begin`.
fn described(world: &World, begin: Instant) -> Vec<f64> {
    world.times(begin, "DescribeTargetHealth")
}

#[tokio::test(start_paused = true)]
async fn a_settled_group_is_described_once_an_invocation_and_resolved_every_time() {
    let (world, function) = polling(5, 55).await;
    let begin = Instant::now();
    assert_eq!(first(function.schedule().await).reconciles, 56);
    assert_eq!(described(&world, begin), [0.005]);
    assert_eq!(world.lookups(begin).len(), 56);
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_seen_by_the_next_invocation() {
    let (world, function) = polling(5, 20).await;
    let meddle = async {
        sleep(seconds(10)).await;
        world.aws.register(ARN, B, 6379);
    };
    let (outcome, ()) = join!(function.schedule(), meddle);
    assert_eq!(targets(&first(outcome).deregistered), [""; 0]);
    sleep(seconds(100)).await;
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.deregistered), ["10.0.2.9:6379"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_neither_unsettles_a_group_nor_describes_it() {
    let (world, function) = polling(5, 20).await;
    let begin = Instant::now();
    let fail = async {
        sleep(Duration::from_millis(4500)).await;
        world.answer(Answer::ServFail);
        sleep(seconds(5)).await;
        world.point(A);
    };
    let (outcome, ()) = join!(function.schedule(), fail);
    assert_eq!(first(outcome).reconciles, 21);
    assert_eq!(described(&world, begin), [0.005]);
    let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
    assert_eq!(failures, 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_settled_group_is_described_again_when_its_name_has_moved() {
    let (world, function) = polling(5, 20).await;
    let begin = Instant::now();
    let fail_over = async {
        sleep(Duration::from_millis(9500)).await;
        world.point(B);
        // Somebody else has already registered B, and another target.
        world.aws.register(ARN, "10.0.3.3", 6379);
        world.aws.register(ARN, B, 6379);
    };
    let (outcome, ()) = join!(function.schedule(), fail_over);
    assert!(
        targets(&first(outcome).registered).is_empty(),
        "it is there"
    );
    let calls = world.aws.take_calls();
    let times: Vec<_> = calls
        .iter()
        .filter(|call| call.action == "DescribeTargetHealth")
        .map(|call| (call.at - begin).as_secs())
        .collect();
    // The group is described in the first reconcile, when the name has moved, and when the doubt about the third target
    // can be believed.
    assert_eq!(times.first(), Some(&0));
    assert!(times.contains(&10), "{times:?}");
    assert!(times.len() <= 4, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failover_in_a_window_costs_two_descriptions_more() {
    let (world, function) = polling(5, 20).await;
    let begin = Instant::now();
    let fail_over = async {
        sleep(Duration::from_millis(9500)).await;
        world.point(B);
    };
    let (outcome, ()) = join!(function.schedule(), fail_over);
    assert!(first(outcome).failover);
    let times: Vec<_> = described(&world, begin)
        .iter()
        .map(|at| at.floor())
        .collect();
    assert_eq!(times, [0.0, 10.0, 11.0]);
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_group_is_described_when_it_can_be_believed_or_its_answer_changes() {
    let (world, function) = polling(5, 40).await;
    world.point(B);
    first(function.schedule().await);
    world.aws.take_calls();
    // A drains, and DNS names it again.
    world.point(A);
    let begin = Instant::now();
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.registered), ["10.0.1.7:6379"]);
    let calls = world.aws.take_calls();
    let before: Vec<_> = calls
        .iter()
        .take_while(|call| !call.is_change())
        .filter(|call| call.action == "DescribeTargetHealth")
        .map(|call| (call.at - begin).as_secs())
        .collect();
    assert_eq!(
        before.len(),
        2,
        "when it began, and when it was believed: {before:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_answers_in_part_is_described_seldom_and_counted_each_time() {
    let mut world = World::settled_in_memory(A, 0).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    world.set("POLL_INTERVAL_SECONDS", 1);
    world.set("MISSES_BEFORE_DEREGISTRATION", 4);
    world.aws.settle(ARN, B, 6379);
    let function = world.function();
    let begin = Instant::now();
    let report = first(function.schedule().await);
    // The five independent answers are 8.5 s apart.
    assert_eq!(targets(&report.deregistered), ["10.0.2.9:6379"]);
    assert!(described(&world, begin).len() <= 5);
}

#[tokio::test(start_paused = true)]
async fn one_group_costs_two_calls_when_idle_and_four_besides_publishing_in_a_failover() {
    let world = World::settled_in_memory(A, 5).await;
    let function = world.function();
    first(function.schedule().await);
    world.actions();
    first(function.schedule().await);
    assert_eq!(world.actions(), ["DescribeTargetHealth", "PutMetricData"]);
    world.point(B);
    first(function.schedule().await);
    let expected = [
        "DescribeTargetHealth",
        "RegisterTargets",
        "DeregisterTargets",
        "PutMetricData",
    ];
    assert_eq!(world.actions(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_failed_is_asked_for_again() {
    let (world, function) = polling(5, 5).await;
    world.aws.inject("DescribeTargetHealth", DENIED);
    let begin = Instant::now();
    first(function.schedule().await);
    let times: Vec<_> = described(&world, begin)
        .iter()
        .map(|at| at.round())
        .collect();
    assert_eq!(times, [0.0, 1.0]);
}

/// A reconcile that cannot describe the group has still learnt something from its answer. A dry run learns nothing.
#[tokio::test(start_paused = true)]
async fn an_answer_counts_also_where_the_description_failed() {
    for (event, deregistered) in [
        ("{}", vec![]),
        (r#"{"dryRun":true}"#, vec!["10.0.2.9:6379"]),
    ] {
        let mut world = World::settled_in_memory(A, 0).await;
        world.set("MISSES_BEFORE_DEREGISTRATION", 1);
        world.aws.settle(ARN, B, 6379);
        let function = world.function();
        let report = first(function.schedule().await);
        assert!(targets(&report.deregistered).is_empty(), "one miss");
        sleep(seconds(10)).await;
        world.answer(dns::addresses([A, B]));
        world.aws.inject("DescribeTargetHealth", DENIED);
        function.invoke(event).await.unwrap_err();
        sleep(seconds(10)).await;
        world.point(A);
        let report = first(function.schedule().await);
        assert_eq!(targets(&report.deregistered), deregistered, "{event}");
    }
}

/// Makes a group whose target A is initial for ever, so that nothing else is doubtful. B belongs to somebody else.
async fn with_another(misses: u32) -> World {
    let mut world = World::settled_in_memory(A, 0).await;
    world.set("MISSES_BEFORE_DEREGISTRATION", misses);
    world.aws.target_group(ARN, |group| {
        group.registration_lag = Duration::ZERO;
        group.dictate(A.parse().unwrap(), 6379, "initial");
    });
    world.aws.register(ARN, B, 6379);
    world
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_again_after_a_change_that_made_it_what_dns_says() {
    for (misses, expected) in [(0, [0.0, 8.0, 9.0]), (2, [0.0, 18.0, 19.0])] {
        let mut world = with_another(misses).await;
        world.set("SCHEDULE_POLL_SECONDS", 20);
        world.set("POLL_INTERVAL_SECONDS", 1);
        let function = world.function();
        let begin = Instant::now();
        let report = first(function.schedule().await);
        assert_eq!(targets(&report.deregistered), ["10.0.2.9:6379"]);
        let times = described(&world, begin);
        let times: Vec<_> = times.iter().map(|at| at.floor()).collect();
        assert_eq!(times, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deregistered_and_comes_back_is_missed_anew() {
    for is_described in [true, false] {
        let world = with_another(1).await;
        let function = world.function();
        let mut deregistered = Vec::new();
        for second in [0, 10, 20, 30, 40] {
            match (second, is_described) {
                (20, true) => world.aws.register(ARN, B, 6379),
                (30, false) => world.aws.register(ARN, B, 6379),
                _ => (),
            }
            if second == 20 && !is_described {
                world.aws.inject("DescribeTargetHealth", DENIED);
                function.schedule().await.unwrap_err();
            } else {
                let report = first(function.schedule().await);
                deregistered.push((second, targets(&report.deregistered).len()));
            }
            sleep(seconds(10)).await;
        }
        let expected = match is_described {
            true => vec![(0, 0), (10, 1), (20, 0), (30, 1), (40, 0)],
            false => vec![(0, 0), (10, 1), (30, 0), (40, 1)],
        };
        assert_eq!(deregistered, expected);
    }
}

/// The group is described again at the last but one miss, so that the doubt begins before the target is stale.
#[tokio::test(start_paused = true)]
async fn a_doubt_begins_before_the_misses_are_full() {
    let mut world = World::settled_in_memory(A, 0).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    world.set("POLL_INTERVAL_SECONDS", 1);
    world.set("MISSES_BEFORE_DEREGISTRATION", 1);
    world.aws.settle(ARN, B, 6379);
    world.answer(Answer::Addresses {
        ttl: 0,
        addresses: [A, B].map(|address| address.parse().unwrap()).to_vec(),
    });
    let function = world.function();
    let leave = async {
        sleep(Duration::from_millis(5500)).await;
        world.point(A);
    };
    let begin = Instant::now();
    let (outcome, ()) = join!(function.schedule(), leave);
    assert!(first(outcome).failover);
    let at = world.times(begin, "DeregisterTargets");
    assert!((14.0..16.0).contains(&at[0]), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_drains_is_doubted_when_it_is_named_whatever_the_misses() {
    let mut world = World::settled_in_memory(B, 0).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    world.set("POLL_INTERVAL_SECONDS", 1);
    world.set("MISSES_BEFORE_DEREGISTRATION", 1);
    world.aws.settle(ARN, A, 6379);
    world.aws.target_group(ARN, |group| {
        group.dictate(A.parse().unwrap(), 6379, "draining");
    });
    let function = world.function();
    let joins = async {
        sleep(Duration::from_millis(5500)).await;
        world.answer(Answer::Addresses {
            ttl: 0,
            addresses: [A, B].map(|address| address.parse().unwrap()).to_vec(),
        });
    };
    let begin = Instant::now();
    let (outcome, ()) = join!(function.schedule(), joins);
    assert_eq!(targets(&first(outcome).registered), ["10.0.1.7:6379"]);
    let at = world.times(begin, "RegisterTargets");
    assert!((14.0..16.0).contains(&at[0]), "{at:?}");
}
