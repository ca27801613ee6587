//! Tests a window of reconciles: when each of them begins, when the window ends, what it reports, and how soon it sees
//! a failover.

use std::time::Duration;

use stand_in::aws::Fault;
use stand_in::dns::{self, Answer};
use stand_in::lambda::{NOTIFICATION, SCHEDULE};
use stand_in::world::{
    ARN, CALL_LATENCY, DNS_LATENCY, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, World, group_arn,
};
use tokio::join;
use tokio::time::{Instant, sleep};

use crate::reading::{THROTTLED, changes, first, samples, seconds, targets, what_failed};

#[tokio::test(start_paused = true)]
async fn a_window_looks_at_its_interval_until_its_end() {
    let starts = |interval: u64, last| (0..=last).step_by(interval as usize).collect::<Vec<_>>();
    for (event, expected) in [(SCHEDULE, starts(6, 18)), (NOTIFICATION, starts(1, 10))] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.set("SCHEDULE_POLL_SECONDS", 20);
        world.set("POLL_INTERVAL_SECONDS", 6);
        world.set("EVENT_POLL_SECONDS", 10);
        let function = world.function();
        function.schedule().await.unwrap();
        world.zone.take_asked();
        let begin = Instant::now();
        let reconciles = first(function.invoke(event).await).reconciles as usize;
        assert_eq!(reconciles, expected.len());
        let took = begin.elapsed().as_secs();
        assert_eq!(took, *expected.last().unwrap(), "nothing is waited for");
        let times = world.lookups(begin).into_iter();
        let times: Vec<_> = times.map(|at| (at * 100.0).round() as u64).collect();
        let expected: Vec<_> = expected.iter().map(|at| at * 100).collect();
        assert_eq!(times, expected, "in hundredths of a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_ends_without_error_in_time_for_the_deadline() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let function = world.function();
    let begin = Instant::now();
    let report = first(function.invoke_within("{}", seconds(30)).await);
    assert_eq!(report.reconciles, 19);
    let took = begin.elapsed();
    assert!(
        took < seconds(19),
        "8 s are kept, and 4 for the last reconcile: {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_turn_does_not_end_the_loop_and_the_last_one_decides() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 20);
    let function = world.function();
    let begin = Instant::now();
    let break_and_heal = async {
        sleep(seconds(2)).await;
        world.zone.set(ENDPOINT, Answer::NxDomain);
        sleep(seconds(10)).await;
        world.point("10.0.2.9");
    };
    let (outcome, ()) = join!(function.schedule(), break_and_heal);
    let report = first(outcome);
    assert_eq!((report.reconciles, report.failover), (5, true));
    assert_eq!(report.errors, None);
    assert_eq!(targets(&report.desired), ["10.0.2.9:6379"]);
    let failures: Vec<_> = samples(&world, "ReconcileFailure");
    assert_eq!(failures.iter().sum::<f64>(), 2.0, "{failures:?}");
    assert!(begin.elapsed() < seconds(21));

    let break_it = async {
        sleep(seconds(12)).await;
        world.zone.set(ENDPOINT, Answer::NxDomain);
    };
    let (outcome, ()) = join!(function.schedule(), break_it);
    assert_eq!(outcome.unwrap_err().error_type(), "ResolveFailed");
}

#[tokio::test(start_paused = true)]
async fn a_failover_in_a_window_is_published_at_once_and_the_rest_at_the_end() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let function = world.function();
    let begin = Instant::now();
    let fail_over = async {
        sleep(seconds(12)).await;
        world.point("10.0.2.9");
    };
    let (outcome, ()) = join!(function.schedule(), fail_over);
    assert_eq!(first(outcome).reconciles, 12);
    let published = world.times(begin, "PutMetricData");
    assert!(
        matches!(published[..], [at_once, end] if (15.0..15.5).contains(&at_once) && (55.0..55.5).contains(&end)),
        "{published:?}"
    );
    let failovers = samples(&world, "Failover");
    assert_eq!((failovers.len(), failovers.iter().sum::<f64>()), (12, 1.0));
}

/// B takes over from A. C belongs to somebody else, is initial, and is held back.
#[tokio::test(start_paused = true)]
async fn a_failover_beside_what_is_held_back_is_published_at_once() {
    let world = World::settled_in_memory("10.0.1.7", 60).await;
    world.aws.register(ARN, "10.0.3.3", 6379);
    world.point("10.0.2.9");
    let begin = Instant::now();
    assert!(first(world.function().notify().await).failover);
    let published = world.times(begin, "PutMetricData");
    assert!(published[0] < 0.5, "{published:?}");
    let failures = samples(&world, "ReconcileFailure");
    assert_eq!(failures.last(), Some(&1.0));
    assert_eq!(failures.iter().sum::<f64>(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_report_unites_what_was_changed_in_all_reconciles() {
    let mut world = World::settled_in_memory("10.0.1.7", 1).await;
    world.set("SCHEDULE_POLL_SECONDS", 30);
    let function = world.function();
    let there_and_back = async {
        sleep(seconds(2)).await;
        world.point("10.0.2.9");
        sleep(seconds(10)).await;
        world.point("10.0.1.7");
    };
    let (outcome, ()) = join!(function.schedule(), there_and_back);
    let report = first(outcome);
    assert_eq!(targets(&report.desired), ["10.0.1.7:6379"]);
    assert_eq!(
        targets(&report.registered),
        ["10.0.1.7:6379", "10.0.2.9:6379"]
    );
    assert_eq!(
        targets(&report.deregistered),
        ["10.0.1.7:6379", "10.0.2.9:6379"]
    );
    assert!(report.failover);
}

/// The name moves right after it was asked for, which is the worst moment.
#[tokio::test(start_paused = true)]
async fn a_failover_in_a_window_is_registered_within_an_interval_and_one_reconcile() {
    for (event, interval) in [(SCHEDULE, 5), (NOTIFICATION, 1)] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.set("SCHEDULE_POLL_SECONDS", 55);
        let function = world.function();
        first(function.schedule().await);
        world.aws.take_calls();
        let fail_over = async {
            sleep(seconds(10) + Duration::from_millis(1)).await;
            world.point("10.0.2.9");
            Instant::now()
        };
        let (outcome, moved) = join!(function.invoke(event), fail_over);
        assert!(first(outcome).failover);
        let registered = world.times(moved, "RegisterTargets");
        let most = (seconds(interval) + DNS_LATENCY + CALL_LATENCY).as_secs_f64();
        assert!(
            matches!(registered[..], [once] if once <= most),
            "{registered:?}"
        );
    }
}

/// Each answer has one of four addresses.
#[tokio::test(start_paused = true)]
async fn a_rotating_name_settles_within_five_reconciles_and_then_stands_still() {
    for seed in 0..20 {
        let mut world = World::settled_in_memory("10.0.1.1", 0).await;
        world.set("LOOKUPS_PER_RECONCILE", 8);
        world.set("MISSES_BEFORE_DEREGISTRATION", 5);
        world.zone.set_seed(seed);
        let addresses = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"];
        let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
        world.answer(Answer::OneOf { ttl: 0, addresses });
        let function = world.function();
        for reconcile in 0..105 {
            function.schedule().await.unwrap();
            let changes = changes(&world.aws.take_calls());
            assert!(reconcile < 5 || changes.is_empty(), "{seed}: {changes:?}");
            assert!(!changes.concat().contains('-'), "{seed}: {changes:?}");
            sleep(seconds(60)).await;
        }
        assert_eq!(world.group().len(), 4, "{seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn groups_that_follow_one_name_each_ask_for_it() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.feed(2);
    world.set("LOOKUPS_PER_RECONCILE", 3);
    let function = world.function();
    world.zone.take_asked();
    function.schedule().await.unwrap();
    assert_eq!(world.zone.take_asked().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn any_failed_lookup_fails_the_reconcile() {
    let mut world = World::settled_in_memory("10.0.1.7", 0).await;
    world.set("LOOKUPS_PER_RECONCILE", 8);
    let function = world.function();
    function.schedule().await.unwrap();
    let asked = world.zone.take_asked().len();
    assert_eq!(asked, 8);
    let fail_in_the_middle = async {
        sleep(Duration::from_millis(22)).await;
        world.zone.set(ENDPOINT, Answer::NxDomain);
    };
    let (outcome, ()) = join!(function.schedule(), fail_in_the_middle);
    assert_eq!(outcome.unwrap_err().error_type(), "ResolveFailed");
    assert!((2..8).contains(&world.zone.take_asked().len()));
}

#[tokio::test(start_paused = true)]
async fn misses_are_counted_of_independent_answers_whatever_caused_the_invocation() {
    let mut world = World::settled_in_memory("10.0.1.7", 0).await;
    world.set("MISSES_BEFORE_DEREGISTRATION", 2);
    world.set("EVENT_POLL_SECONDS", 3);
    world.aws.settle(ARN, "10.0.2.9", 6379);
    let function = world.function();
    let missing = async || targets(&first(function.schedule().await).deregistered);
    assert_eq!(missing().await, [""; 0], "one miss");
    // Answers that come within the margin after another one depend on it, and add nothing.
    for _ in 0..3 {
        assert_eq!(missing().await, [""; 0]);
    }

    sleep(seconds(10)).await;
    first(function.invoke(r#"{"dryRun":true}"#).await);
    world.zone.set(ENDPOINT, Answer::NxDomain);
    function.schedule().await.unwrap_err();
    world.point("10.0.1.7");
    first(function.notify().await);
    assert_eq!(missing().await, [""; 0], "two misses");
    sleep(seconds(10)).await;
    let deregistered = first(function.notify().await).deregistered;
    assert_eq!(targets(&deregistered), ["10.0.2.9:6379"], "three misses");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_be_applied_is_a_miss_all_the_same() {
    let mut world = World::settled_in_memory("10.0.1.7", 0).await;
    world.set("MISSES_BEFORE_DEREGISTRATION", 1);
    let function = world.function();
    world.point("10.0.2.9");
    let denied = Fault::Error(400, "AccessDenied", "no");
    world.aws.inject("RegisterTargets", denied);
    function.schedule().await.unwrap_err();
    sleep(seconds(60)).await;
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.deregistered), ["10.0.1.7:6379"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_stays_and_an_answer_inside_it_is_refused() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.aws.register(ARN, "10.0.7.7", 6379);
    world.set("KEEP_CIDRS", "10.0.7.0/24");
    let function = world.function();
    world.point("10.0.2.9");
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.deregistered), ["10.0.1.7:6379"]);

    world.point("10.0.7.7");
    world.aws.take_calls();
    let errors = function.schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "AnswerRefused");
    assert_eq!(
        what_failed(&errors.to_string()),
        format!("refused the answer for {ENDPOINT}: 10.0.7.7 is inside KEEP_CIDRS")
    );
    assert_eq!(changes(&world.aws.take_calls()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn once_cloudwatch_is_out_of_reach_nothing_is_tried_before_the_end() {
    let mut world = World::settled_in_memory("10.0.1.7", 1).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let function = world.function();
    let denied = Fault::Error(403, "AccessDenied", "no");
    world.aws.inject_always("PutMetricData", denied);
    let begin = Instant::now();
    let fail_over = async {
        for node in ["10.0.2.9", "10.0.3.3", "10.0.1.7"] {
            sleep(seconds(15)).await;
            world.point(node);
        }
    };
    let (outcome, ()) = join!(function.schedule(), fail_over);
    assert_eq!(outcome.unwrap_err().error_type(), "PublishFailed");
    let published = world.times(begin, "PutMetricData");
    assert!(
        matches!(published[..], [first, last] if first < 20.5 && last > 55.0),
        "{published:?}"
    );
    world.aws.heal();
    function.schedule().await.unwrap();
    assert_eq!(samples(&world, "Failover").iter().sum::<f64>(), 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_hangs_delays_no_other_groups_window() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.zone.set(OTHER_ENDPOINT, dns::addresses(["10.0.1.7"]));
    world.follow([(ENDPOINT, ARN), (OTHER_ENDPOINT, OTHER_ARN)]);
    world.set("SCHEDULE_POLL_SECONDS", 55);
    let function = world.function();
    function.schedule().await.unwrap();
    let describe = "DescribeTargetHealth";
    world
        .aws
        .inject_where(describe, Some(ARN), Fault::Hang, None);
    world.zone.take_asked();
    let begin = Instant::now();
    let errors = function.schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "DescribeFailed");
    assert!(begin.elapsed() < seconds(64));
    let asked = world.zone.take_asked();
    let others = asked.iter().filter(|asked| asked.name == OTHER_ENDPOINT);
    assert_eq!(others.count(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_hangs_uses_up_no_other_groups_retries() {
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.follow([(ENDPOINT, ARN), (ENDPOINT, &group_arn(1))]);
    let function = world.function();
    function.schedule().await.unwrap();
    let describe = "DescribeTargetHealth";
    let hang = Fault::Hang;
    world
        .aws
        .inject_where(describe, Some(&group_arn(1)), hang, None);
    for minute in 0..100 {
        world
            .aws
            .inject_where(describe, Some(ARN), THROTTLED, Some(1));
        let message = function.schedule().await.unwrap_err().to_string();
        assert!(!message.contains(ARN), "minute {minute}: {message}");
        sleep(seconds(54)).await;
    }
}
