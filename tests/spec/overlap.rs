//! I8: invocations overlap, and their resolvers hold different answers. These tests play the stories of
//! `src/plan/doubt.rs` at every offset of one invocation to the other, and check that the truth is believed in time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format as DateTimeFormat;
use serde_json::{Value, json};
use stand_in::aws::{Call, Fault};
use stand_in::dns::{self, Answer, Cache, Source, addresses};
use stand_in::lambda::{NOTIFICATION, TIMEOUT};
use stand_in::world::{ARN, ENDPOINT, Function, OTHER_ENDPOINT, REGISTRATION_LAG, World};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::reading::{DENIED, THROTTLED, changes, first, lines, result, samples, seconds, targets};

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const C: &str = "10.0.3.3";
/// The two or three reconciles of an invocation take less than this, with all their calls.
const A_MOMENT: Duration = Duration::from_millis(500);
/// A cache that counts in whole seconds may give an answer for this much longer.
const TTL_RESOLUTION: Duration = Duration::from_secs(1);
/// The time from the end of an answer's TTL to the first answer that is independent of it.
const MARGIN: Duration = Duration::from_millis(8500);
/// The time at which the last reconcile may start. Within a timeout of 75 s, 8 s are kept for publishing and 4 s for
/// that reconcile.
const LAST_START: Duration = Duration::from_secs(63);

/// Checks that a plain invocation leaves a doubtful change undone. It ends at once, without an error, and changes
/// nothing.
async fn assert_left_undone(world: &World, function: &Function) {
    world.aws.take_data();
    world.aws.take_calls();
    let begin = Instant::now();
    let report = first(function.schedule().await);
    assert_eq!((report.reconciles, report.failover), (1, false));
    assert!(begin.elapsed() < A_MOMENT, "{:?}", begin.elapsed());
    assert_eq!(changes(&world.aws.take_calls()), [""; 0]);
    assert_eq!(samples(world, "ReconcileFailure"), [1.0]);
}

/// Makes a world whose group has had A and B for a long time.
async fn long_standing(ttl: u32) -> World {
    let world = World::settled_in_memory(A, ttl).await;
    world.aws.settle(ARN, B, 6379);
    world
}

/// Replays what ELB acknowledged, beginning with `serving`.
///
/// # Panics
/// Panics if the group had only draining targets at any time.
fn assert_never_empty(serving: &[&str], calls: &[Call]) {
    let mut live: Vec<_> = serving.iter().map(ToString::to_string).collect();
    for call in calls.iter().filter(|call| call.outcome == "Ok") {
        for target in &call.targets {
            live.retain(|address| *address != target.id);
            if call.action == "RegisterTargets" {
                live.push(target.id.clone());
            }
        }
        assert!(!live.is_empty(), "nobody serves after {:?}", changes(calls));
    }
}

/// Moves the endpoint from A to B. The resolver of one sandbox knows this. The resolver of the other one still says A
/// for `left` seconds, which are left of its TTL.
async fn torn(poll: u32, left: u64) -> (World, Function, Function) {
    let mut world = World::settled_in_memory(A, 30).await;
    world.set("SCHEDULE_POLL_SECONDS", poll);
    let fresh = world.function_that_asks(&Cache::of(&world.zone));
    let stale_cache = Cache::of(&world.zone);
    let stale = world.function_that_asks(&stale_cache);
    world.set("SCHEDULE_POLL_SECONDS", 0);
    let once = world.function_that_asks(&stale_cache);
    first(once.schedule().await);
    sleep(seconds(30 - left)).await;
    world.point(B);
    world.aws.take_calls();
    (world, fresh, stale)
}

/// Returns the delays for every order in which the calls of two invocations can come, to a hundredth of a second.
fn offsets() -> impl Iterator<Item = (Duration, Duration)> {
    let step = |n: u64| Duration::from_millis(10 * n);
    let first_leads = (0..30).map(move |n| (Duration::ZERO, step(n)));
    let second_leads = (1..30).map(move |n| (step(n), Duration::ZERO));
    first_leads.chain(second_leads)
}

#[tokio::test(start_paused = true)]
async fn i8_a_stale_answer_neither_brings_back_what_drains_nor_removes_what_is_new() {
    for (delay_of_fresh, delay_of_stale) in offsets() {
        for left in [15, 25] {
            let (world, fresh, stale) = torn(0, left).await;
            let (fresh, stale) = join!(
                async {
                    sleep(delay_of_fresh).await;
                    fresh.schedule().await
                },
                async {
                    sleep(delay_of_stale).await;
                    stale.schedule().await
                },
            );
            let calls = world.aws.take_calls();
            assert_never_empty(&[A], &calls);
            assert_eq!(changes(&calls), ["+10.0.2.9", "-10.0.1.7"]);
            assert!(first(fresh).failover);
            let stale = first(stale);
            assert_eq!((stale.registered.len(), stale.deregistered.len()), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_call_that_is_tried_again_after_the_endpoint_moved_back_empties_nothing() {
    for (ttl, hangs, delay) in [0, 1, 3, 5, 10]
        .into_iter()
        .flat_map(|ttl| [1, 2].map(|hangs| (ttl, hangs)))
        .flat_map(|(ttl, hangs)| [300, 1000, 2000, 2600].map(|delay| (ttl, hangs, delay)))
    {
        let world = World::settled_in_memory(A, ttl).await;
        let first = world.function_that_asks(&Cache::of(&world.zone));
        let second = world.function_that_asks(&Cache::of(&world.zone));
        world.point(B);
        world.aws.take_calls();
        let hang = Fault::Hang;
        world
            .aws
            .inject_where("DeregisterTargets", None, hang, Some(hangs));
        let moves_back = async {
            sleep(Duration::from_millis(delay)).await;
            world.point(A);
            second.schedule().await
        };
        // Either may fail; another invocation follows.
        let _ = join!(first.schedule(), moves_back);
        assert_ends_at_a(&world, [&first, &second], &[A]).await;
    }
}

/// Checks that two more invocations of each function bring the group to A, and that the group is never empty.
async fn assert_ends_at_a(world: &World, functions: [&Function; 2], serving: &[&str]) {
    for function in functions.into_iter().chain(functions) {
        sleep(seconds(30)).await;
        // It may still fail; the group is what counts.
        let _ = function.schedule().await;
    }
    assert_never_empty(serving, &world.aws.take_calls());
    let group = world.group();
    let mut current = group.iter().filter(|line| !line.ends_with("draining"));
    assert!(current.all(|line| line.starts_with(A)), "{group:?}");
}

/// Returns a resolver that needs that long for every answer, even for one from its cache.
fn slowly(cache: &Cache, delay: Duration) -> Source {
    let cache = Source::from(cache);
    Source::Responder(Arc::new(move |query, is_tcp| {
        let (own, answer) = cache.answer(query, is_tcp)?;
        Some((own + delay, answer))
    }))
}

/// The first sandbox's four lookups take seconds, and its call that deregisters A hangs. Meanwhile the endpoint moves
/// to A, and the second sandbox believes that.
#[tokio::test(start_paused = true)]
async fn i8_a_slow_stale_answer_and_a_call_that_hangs_meet_no_other_sandbox_that_believes() {
    for (ttl, lookup) in [1, 10]
        .into_iter()
        .flat_map(|ttl| [500, 750].map(|ms| (ttl, ms)))
    {
        for moved in (0..60).map(|n| n * Duration::from_millis(500)) {
            let mut world = long_standing(ttl).await;
            world.point(B);
            let second = world.function();
            world.set("LOOKUPS_PER_RECONCILE", 4);
            let slow = slowly(&Cache::of(&world.zone), Duration::from_millis(lookup));
            let slow = world.function_that_asks(slow);
            world.aws.inject("DeregisterTargets", Fault::Hang);
            let moves_back = async {
                sleep(moved).await;
                world.point(A);
                second.schedule().await
            };
            // Either may fail; another invocation follows.
            let _ = join!(slow.schedule(), moves_back);
            assert_ends_at_a(&world, [&slow, &second], &[A, B]).await;
        }
    }
}

/// Both sandboxes are slow. The second one must not believe as long as the first one may still act:
/// 1. The first one registers B, and fails to deregister A. The endpoint moves back to A, and the second
///    one doubts that B is to go.
/// 2. At the last moment at which its cache gives B, the first one tries again. Its description is slow,
///    and its call to deregister A hangs and is tried again.
/// 3. The second one asks again before that call takes effect, and describes A as healthy. Its five lookups
///    are answered after the margin, and yet they were sent before it was over.
#[tokio::test(start_paused = true)]
async fn i8_however_late_answers_and_calls_come_the_group_is_not_emptied() {
    const TTL: Duration = Duration::from_secs(60);
    let late = |ms| Fault::Latency(Duration::from_millis(ms));
    // The second description comes too late to act on. Counted from here, the time to act would overrun the margin.
    let soon = [late(2200)];
    let too_late = [Fault::Hang, Fault::Hang, late(800)];
    for (description, lookup, asks_again) in [&soon[..], &too_late]
        .into_iter()
        .flat_map(|description| [5, 750].map(|ms| (description, Duration::from_millis(ms))))
        .flat_map(|(description, lookup)| {
            (2..20).map(move |n| (description, lookup, n * Duration::from_millis(500)))
        })
    {
        let mut world = World::settled_in_memory(A, 60).await;
        let first = world.function_that_asks(&Cache::of(&world.zone));
        world.set("LOOKUPS_PER_RECONCILE", 5);
        let second = world.function();
        world.point(B);
        let cached = Instant::now();
        let denied = Fault::Error(400, "AccessDenied", "no");
        world.aws.inject("DeregisterTargets", denied);
        first.schedule().await.unwrap_err();
        world.point(A);
        assert_left_undone(&world, &second).await;

        world.zone.set_latency(lookup);
        for fault in description {
            world.aws.inject("DescribeTargetHealth", fault.clone());
        }
        world.aws.inject("DeregisterTargets", Fault::Hang);
        let tick_at = async |function: &Function, at| {
            sleep_until(at).await;
            function.schedule().await
        };
        let last_moment = cached + TTL + TTL_RESOLUTION * 9 / 10;
        // Either may fail; another invocation follows.
        let _ = join!(
            tick_at(&first, last_moment),
            tick_at(&second, cached + TTL + asks_again)
        );
        assert_ends_at_a(&world, [&first, &second], &[A, B]).await;
    }
}

/// Two attempts to describe the targets hang, so the answer is older than 5 s when they are described.
#[tokio::test(start_paused = true)]
async fn i8_a_reconcile_whose_answer_is_too_old_to_act_on_starts_again_and_counts_once() {
    let world = World::settled_in_memory(A, 5).await;
    let function = world.function();
    first(function.schedule().await);
    world.point(B);
    world.aws.take_calls();
    world.aws.take_data();
    world.zone.take_asked();
    let hang = Fault::Hang;
    world
        .aws
        .inject_where("DescribeTargetHealth", None, hang, Some(2));
    let begin = Instant::now();
    let report = first(function.schedule().await);
    assert_eq!((report.reconciles, report.failover), (1, true));
    let took = begin.elapsed();
    assert!((seconds(5)..seconds(6)).contains(&took), "{took:?}");
    assert_eq!(samples(&world, "ReconcileFailure"), [0.0]);
    assert_eq!(world.zone.take_asked().len(), 2, "DNS is asked again");
    let calls = world.aws.take_calls();
    let describes = calls
        .iter()
        .filter(|call| call.action == "DescribeTargetHealth");
    assert_eq!(describes.count(), 3, "and so is ELB, after two attempts");
    assert_eq!(changes(&calls), ["+10.0.2.9", "-10.0.1.7"]);
}

#[tokio::test(start_paused = true)]
async fn i8_a_group_that_was_emptied_gets_the_target_that_drains_back_at_once() {
    let world = World::settled_in_memory(A, 60).await;
    let function = world.function();
    let by_hand = stand_in::elb::TargetDescription {
        id: A.to_owned(),
        port: Some(6379),
        zone: None,
    };
    world.aws.target_group(ARN, |group| {
        group.deregister(Instant::now(), &[by_hand]);
    });
    assert_eq!(world.group(), ["10.0.1.7:6379 draining"]);
    let begin = Instant::now();
    let report = first(function.schedule().await);
    assert!(begin.elapsed() < A_MOMENT, "{:?}", begin.elapsed());
    assert_eq!(report.reconciles, 1);
    assert_eq!(targets(&report.registered), ["10.0.1.7:6379"]);
    assert_eq!(world.group(), ["10.0.1.7:6379 initial"]);
    assert_eq!(samples(&world, "ReconcileFailure"), [0.0]);
}

/// Each sandbox has doubted the other one's target once. Hours later their resolvers differ again.
#[tokio::test(start_paused = true)]
async fn i8_two_sandboxes_that_wake_hours_later_believe_nothing_of_what_they_doubted() {
    for is_frozen in [false, true] {
        let world = long_standing(60).await;
        let fresh = world.function();
        let cache = Cache::of(&world.zone);
        let stale = world.function_that_asks(&cache);
        for is_later in [false, true] {
            if is_later && is_frozen {
                // The cache's TTL must be over in both cases, also where only the time of day goes on.
                sleep(seconds(90)).await;
                world.clock.forward(seconds(5 * 3600));
            } else if is_later {
                sleep(seconds(5 * 3600)).await;
            }
            world.point(B);
            first(stale.invoke(r#"{"dryRun":true}"#).await);
            world.point(A);
            assert_left_undone(&world, &fresh).await;
            assert_left_undone(&world, &stale).await;
        }
        assert_eq!(
            world.group(),
            ["10.0.1.7:6379 healthy", "10.0.2.9:6379 healthy"]
        );
    }
}

/// The clock of a thawed sandbox is set right while it polls. Its resolver still has the answer from before the
/// failover.
#[tokio::test(start_paused = true)]
async fn i8_a_step_of_the_wall_clock_makes_no_answer_independent() {
    let mut world = World::settled_in_memory(A, 20).await;
    let fresh = world.function();
    world.set("SCHEDULE_POLL_SECONDS", "55");
    let stale = world.function_that_asks(&Cache::of(&world.zone));
    stale.invoke(r#"{"dryRun":true}"#).await.unwrap();
    world.point(B);
    fresh.invoke("{}").await.unwrap();
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
    world.changes();
    let set_right = async {
        sleep(seconds(3)).await;
        world.clock.forward(seconds(60));
    };
    let (outcome, ()) = join!(stale.schedule(), set_right);
    let report = first(outcome);
    assert!(report.registered.is_empty(), "{:?}", report.registered);
    assert_eq!(world.changes(), [""; 0]);
}

/// The kept target says nothing about what another invocation does to the other two.
#[tokio::test(start_paused = true)]
async fn i8_a_kept_target_that_is_initial_makes_no_removal_beside_it_certain() {
    for (delay_of_fresh, delay_of_stale) in offsets() {
        let mut world = long_standing(30).await;
        world.set("KEEP_CIDRS", "10.0.7.0/24");
        let fresh = world.function();
        let stale = world.function_that_asks(&Cache::of(&world.zone));
        first(stale.invoke(r#"{"dryRun":true}"#).await);
        world.point(B);
        world.aws.register(ARN, "10.0.7.7", 6379);
        world.aws.take_calls();
        let begin = Instant::now();
        let (fresh, stale) = join!(
            async {
                sleep(delay_of_fresh).await;
                fresh.schedule().await
            },
            async {
                sleep(delay_of_stale).await;
                stale.schedule().await
            },
        );
        let calls = world.aws.take_calls();
        assert_never_empty(&[A, B], &calls);
        assert_eq!(changes(&calls), ["-10.0.1.7"]);
        let removed = calls.iter().find(|call| call.action == "DeregisterTargets");
        let after = removed.unwrap().at - begin - delay_of_fresh;
        assert!(after >= seconds(30) + MARGIN, "{after:?}");
        assert!(first(fresh).failover && !first(stale).failover);
    }
}

/// The TTL and the margin are longer than an invocation, and the schedule is too slow to remember the doubt.
#[tokio::test(start_paused = true)]
async fn i8_a_change_that_never_comes_is_told_in_each_invocation() {
    let world = long_standing(60).await;
    let function = world.function();
    for _ in 0..10 {
        assert_left_undone(&world, &function).await;
        sleep(seconds(180)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i8_what_drains_is_not_brought_back_however_soon_the_new_one_is_healthy() {
    let (world, fresh, stale) = torn(0, 15).await;
    world
        .aws
        .target_group(ARN, |group| group.registration_lag = Duration::ZERO);
    first(fresh.schedule().await);
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"]
    );
    first(stale.schedule().await);
    assert_eq!(changes(&world.aws.take_calls()), ["+10.0.2.9", "-10.0.1.7"]);
}

#[tokio::test(start_paused = true)]
async fn i8_windows_that_overlap_for_minutes_fail_over_once() {
    for offset in [0, 7, 40, 990, 2500] {
        let (world, fresh, stale) = torn(55, 25).await;
        let invoke_often = async |function: &Function, offset| {
            sleep(Duration::from_millis(offset)).await;
            for _ in 0..3 {
                first(function.schedule().await);
            }
        };
        join!(invoke_often(&fresh, 0), invoke_often(&stale, offset));
        let calls = world.aws.take_calls();
        assert_never_empty(&[A], &calls);
        assert_eq!(
            changes(&calls),
            ["+10.0.2.9", "-10.0.1.7"],
            "offset {offset}"
        );
    }
}

/// The caches expire at different times, the endpoint moves every few seconds, and two windows overlap all the time.
/// The group always serves, and in the end it is where DNS is.
#[tokio::test(start_paused = true)]
async fn i8_whatever_the_caches_hold_somebody_serves_and_the_truth_wins() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::settled_in_memory(A, random.u32(1..20)).await;
        world.set("SCHEDULE_POLL_SECONDS", 55);
        world.set("POLL_INTERVAL_SECONDS", random.u32(1..6));
        world.aws.take_calls();
        let functions = [
            world.function_that_asks(&Cache::of(&world.zone)),
            world.function_that_asks(&Cache::of(&world.zone)),
        ];
        let offset = Duration::from_millis(random.u64(0..5000));
        let invoke_often = async |function: &Function, offset| {
            sleep(offset).await;
            for _ in 0..5 {
                first(function.schedule().await);
            }
        };
        let wander = async {
            for _ in 0..12 {
                sleep(Duration::from_millis(random.u64(500..25_000))).await;
                world.point([A, B, C][random.usize(0..3)]);
            }
            world.point(B);
        };
        join!(
            invoke_often(&functions[0], Duration::ZERO),
            invoke_often(&functions[1], offset),
            wander
        );
        for function in &functions {
            first(function.schedule().await);
        }
        assert_never_empty(&[A], &world.aws.take_calls());
        let current: Vec<_> = world.group();
        let current: Vec<_> = current
            .iter()
            .filter(|line| !line.ends_with("draining"))
            .collect();
        assert!(
            matches!(&current[..], [one] if one.starts_with(B)),
            "seed {seed}: {current:?}"
        );
    }
}

/// Waits until the group has followed the endpoint. Returns the time since the endpoint `moved` there.
async fn followed(world: &World, address: &str, moved: Instant, deadline: Duration) -> Duration {
    let address: IpAddr = address.parse().unwrap();
    loop {
        let targets = world.aws.targets(ARN);
        let mut current = targets.iter().filter(|target| target.state != "draining");
        if current.all(|target| target.address == address) {
            return moved.elapsed();
        }
        assert!(moved.elapsed() < deadline, "{:?}", world.group());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Moves the endpoint from A to B, and 8 s later on to `next`. Returns how long the group took to follow it there.
async fn moves_twice(next: &str, ttl: u32, poll: u32, interval: u32) -> (World, Duration) {
    let mut world = World::settled_in_memory(A, ttl).await;
    world.set("SCHEDULE_POLL_SECONDS", poll);
    world.set("POLL_INTERVAL_SECONDS", interval);
    let function = world.function_that_asks(&Cache::of(&world.zone));
    world.point(B);
    let (invocations, elapsed) = join!(
        async {
            let begin = Instant::now();
            for minute in 0..3 {
                sleep_until(begin + seconds(60 * minute)).await;
                first(function.schedule().await);
            }
        },
        async {
            sleep(seconds(8)).await;
            assert_eq!(
                world.group(),
                ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
            );
            world.point(next);
            followed(&world, next, Instant::now(), seconds(120)).await
        }
    );
    let () = invocations;
    (world, elapsed)
}

#[tokio::test(start_paused = true)]
async fn i8_a_true_move_back_or_on_completes_within_its_ttl_the_margin_and_one_interval() {
    for next in [A, C] {
        for (ttl, poll, interval) in [(2, 55, 5), (5, 55, 1), (5, 55, 5), (18, 55, 5), (30, 55, 5)]
        {
            let (_, elapsed) = moves_twice(next, ttl, poll, interval).await;
            // The resolver's cache may give the old answer for one TTL, and then the new one is doubted for another
            // TTL.
            let interval = seconds(interval.into()) + A_MOMENT;
            let limit = 2 * seconds(ttl.into()) + TTL_RESOLUTION + MARGIN + interval;
            assert!(elapsed <= limit, "{next}, TTL {ttl}: {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_plain_invocation_waits_for_the_ttl_and_the_margin_and_completes() {
    for next in [A, C] {
        let world = World::settled_in_memory(A, 5).await;
        let function = world.function();
        world.point(B);
        first(function.schedule().await);
        sleep(seconds(20)).await;
        world.point(next);
        world.aws.take_calls();
        let begin = Instant::now();
        let report = first(function.schedule().await);
        assert_eq!(report.reconciles, 15, "every second, and once more");
        assert!(report.failover);
        let took = begin.elapsed();
        let wait = seconds(5) + MARGIN;
        assert!((wait..wait + A_MOMENT).contains(&took), "{took:?}");
        assert_eq!(targets(&report.desired), [format!("{next}:6379")]);
    }
}

/// A cache may have got its answer only a moment before it gave it. And it may give an old answer until it is asked.
#[tokio::test(start_paused = true)]
async fn i8_an_answer_counts_from_its_first_question_and_its_ttl_from_its_last_answer() {
    let mut world = long_standing(5).await;
    world.set("LOOKUPS_PER_RECONCILE", 4);
    world.zone.set_latency(Duration::from_millis(900));
    let function = world.function();
    let begin = Instant::now();
    let report = first(function.schedule().await);
    assert!(report.failover);
    let took = begin.elapsed();
    let lookups = 4 * Duration::from_millis(900);
    let wait = lookups + seconds(5) + MARGIN + lookups;
    // Another reconcile may be under way then.
    assert!(
        (wait..wait + lookups + A_MOMENT).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_that_outlasts_the_invocation_changes_nothing_and_is_remembered() {
    let world = World::settled_in_memory(A, 60).await;
    world
        .aws
        .target_group(ARN, |group| group.deregistration_delay = seconds(300));
    let function = world.function();
    world.point(B);
    first(function.schedule().await);
    world.point(A);
    let begin = Instant::now();
    assert_left_undone(&world, &function).await;

    let other_sandbox = world.function();
    sleep_until(begin + seconds(69)).await;
    // The other sandbox does not have this memory, so it doubts for itself.
    assert_left_undone(&world, &other_sandbox).await;

    let report = first(function.schedule().await);
    assert_eq!((report.reconciles, report.failover), (1, true));
    assert_eq!(samples(&world, "ReconcileFailure"), [0.0]);
    assert_eq!(changes(&world.aws.take_calls()), ["+10.0.1.7", "-10.0.2.9"]);
}

#[tokio::test(start_paused = true)]
async fn i8_a_plain_invocation_waits_for_what_can_be_believed_before_63_s() {
    // 54 s is the last whole second of a TTL that can be waited for, and 55 s is the first that cannot.
    for (ttl, is_waited_for) in [(54, true), (55, false)] {
        assert_eq!(seconds(ttl) + MARGIN < LAST_START, is_waited_for);
        let world = World::settled_in_memory(A, ttl.try_into().unwrap()).await;
        let function = world.function();
        world.point(B);
        first(function.schedule().await);
        world.point(A);
        if !is_waited_for {
            assert_left_undone(&world, &function).await;
            continue;
        }
        world.aws.take_data();
        let begin = Instant::now();
        let report = first(function.schedule().await);
        assert_eq!((report.reconciles, report.failover), (64, true));
        let took = begin.elapsed();
        let wait = seconds(ttl) + MARGIN;
        assert!((wait..wait + A_MOMENT).contains(&took), "{took:?}");
        assert_eq!(samples(&world, "ReconcileFailure"), [0.0; 64]);
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_prolongs_a_window_and_nothing_else_does() {
    let mut world = World::settled_in_memory(A, 15).await;
    world.set("SCHEDULE_POLL_SECONDS", 20);
    let function = world.function();
    world.point(B);
    let begin = Instant::now();
    let fail_back = async {
        sleep(seconds(12)).await;
        world.point(A);
    };
    let (outcome, ()) = join!(function.schedule(), fail_back);
    let report = first(outcome);
    // Reconciles start at 0, 5 and 10 s, every second from 15 s on while something is held back, and at 38.5 s.
    assert_eq!(report.reconciles, 3 + 24 + 1);
    assert_eq!(
        targets(&report.registered),
        ["10.0.1.7:6379", "10.0.2.9:6379"]
    );
    let took = begin.elapsed();
    assert!((seconds(38)..seconds(39)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_is_waited_for_within_the_deadline_only() {
    let world = World::settled_in_memory(A, 15).await;
    let function = world.function();
    world.point(B);
    first(function.schedule().await);
    world.point(A);
    let begin = Instant::now();
    // Of the 24 s, 12 s are left for reconciles.
    let report = first(function.invoke_within("{}", seconds(24)).await);
    assert_eq!((report.reconciles, report.failover), (1, false));
    assert!(begin.elapsed() < A_MOMENT);
}

#[tokio::test(start_paused = true)]
async fn i8_a_dry_run_reports_a_doubtful_plan_and_remembers_nothing() {
    let world = World::settled_in_memory(A, 5).await;
    let function = world.function();
    world.point(B);
    first(function.schedule().await);
    world.point(A);
    for _ in 0..3 {
        let report = first(function.invoke(r#"{"dryRun":true}"#).await);
        assert_eq!((report.reconciles, report.failover), (1, true));
        assert_eq!(targets(&report.registered), ["10.0.1.7:6379"]);
        assert_eq!(targets(&report.deregistered), ["10.0.2.9:6379"]);
        sleep(seconds(7)).await;
    }
    let report = first(function.schedule().await);
    assert_eq!(report.reconciles, 15, "the doubt is new");
}

#[tokio::test(start_paused = true)]
async fn i8_an_invocation_by_a_notification_doubts_like_any_other() {
    let (world, fresh, stale) = torn(0, 15).await;
    let (fresh, stale) = join!(fresh.schedule(), stale.notify());
    assert!(first(fresh).failover);
    assert!(!first(stale).failover);
    let calls = world.aws.take_calls();
    assert_never_empty(&[A], &calls);
    assert_eq!(changes(&calls), ["+10.0.2.9", "-10.0.1.7"]);
}

#[tokio::test(start_paused = true)]
async fn i8_the_ttl_is_the_longest_in_the_chain_and_over_all_lookups() {
    let chain = |ttl, target: &str| Answer::Cname {
        ttl,
        target: target.to_owned(),
        is_split: false,
    };
    let address = |ttl| Answer::Addresses {
        ttl,
        addresses: vec![A.parse().unwrap()],
    };
    // Each case has the endpoint's first answer, its answer to the second lookup, and another endpoint's answer.
    for (at_first, then, other) in [
        (chain(13, "node.example.com"), None, None),
        (chain(1, "shard.example.com"), None, None),
        (address(13), None, None),
        (address(13), Some(address(1)), None),
        (address(1), Some(address(13)), None),
        (address(1), None, Some(address(13))),
        (address(13), None, Some(address(1))),
    ] {
        let mut world = World::settled_in_memory(A, 1).await;
        world.set("LOOKUPS_PER_RECONCILE", 2);
        if other.is_some() {
            world.set("ENDPOINTS", format!("{ENDPOINT},{OTHER_ENDPOINT}"));
            world.set("TARGET_GROUP_ARNS", format!("{ARN},{ARN}"));
        }
        let function = world.function();
        world
            .zone
            .set("shard.example.com", chain(13, "node.example.com"));
        world.zone.set("node.example.com", addresses([A]));
        world.zone.set(OTHER_ENDPOINT, addresses([B]));
        world.point(B);
        first(function.schedule().await);
        world.zone.set(ENDPOINT, at_first.clone());
        if let Some(other) = &other {
            world.zone.set(OTHER_ENDPOINT, other.clone());
        }
        let begin = Instant::now();
        let change = async {
            sleep(Duration::from_millis(2)).await;
            if let Some(then) = &then {
                world.zone.set(ENDPOINT, then.clone());
            }
        };
        let (outcome, ()) = join!(function.schedule(), change);
        assert!(first(outcome).failover);
        let took = begin.elapsed();
        let wait = seconds(13) + MARGIN;
        let case = (at_first, then, other);
        assert!(
            (wait..wait + A_MOMENT).contains(&took),
            "{took:?} of {case:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn i8_two_answers_about_targets_that_were_both_there_for_long_leave_one() {
    for (delay_of_fresh, delay_of_stale) in offsets() {
        let world = long_standing(30).await;
        let fresh = world.function();
        let stale = world.function_that_asks(&Cache::of(&world.zone));
        first(stale.invoke(r#"{"dryRun":true}"#).await);
        world.point(B);
        let begin = Instant::now();
        let invoke_often = async |function: &Function, delay| {
            for minute in 0..3 {
                sleep_until(begin + seconds(60 * minute) + delay).await;
                first(function.schedule().await);
            }
        };
        join!(
            invoke_often(&fresh, delay_of_fresh),
            invoke_often(&stale, delay_of_stale)
        );
        let calls = world.aws.take_calls();
        assert_never_empty(&[A, B], &calls);
        let changes = changes(&calls);
        assert!(
            changes.iter().all(|change| change == "-10.0.1.7"),
            "{changes:?}"
        );
        assert_ne!(changes, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_is_waited_for_also_when_too_many_groups_reconcile_at_once() {
    let mut world = World::settled_in_memory(A, 14).await;
    for arn in world.feed(30) {
        world.aws.register(&arn, B, 6379);
    }
    world.set("SCHEDULE_POLL_SECONDS", 10);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let function = world.function();
    first(function.schedule().await);
    world.point(B);
    sleep(seconds(20)).await;
    first(function.schedule().await);
    world.point(A);
    let report = function.schedule().await.unwrap();
    let followed = report.target_groups.iter().filter(|group| group.failover);
    assert_eq!(followed.count(), 30);
}

#[tokio::test(start_paused = true)]
async fn i8_a_failed_reconcile_does_not_end_the_wait() {
    let mut world = World::settled_in_memory(A, 15).await;
    world.set("SCHEDULE_POLL_SECONDS", 21);
    let function = world.function();
    world.point(B);
    let fail_back = async {
        sleep(seconds(14)).await;
        world.point(A);
        sleep(seconds(5)).await;
        world.answer(Answer::NxDomain);
        sleep(seconds(2)).await;
        world.point(A);
    };
    let begin = Instant::now();
    let (outcome, ()) = join!(function.schedule(), fail_back);
    assert!(first(outcome).failover);
    let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
    assert_eq!(failures, 2.0, "two lookups failed meanwhile");
    assert_eq!(world.group()[0], "10.0.1.7:6379 initial");
    let took = begin.elapsed();
    assert!((seconds(38)..seconds(39)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i8_ever_new_doubts_prolong_an_invocation_until_its_last_start_at_most() {
    let world = World::settled_in_memory(A, 9).await;
    let function = world.function();
    for address in [B, C, A] {
        world.point(address);
        first(function.schedule().await);
    }
    world.aws.take_calls();
    world.aws.take_data();
    let wander = async {
        for address in [B, C].into_iter().cycle() {
            world.point(address);
            sleep(seconds(17)).await;
        }
    };
    let begin = Instant::now();
    let outcome = tokio::select! {
        outcome = function.schedule() => outcome,
        () = wander => unreachable!("it wanders for ever"),
    };
    let report = first(outcome);
    // The fourth doubt begins at 51 s, and could be believed at 68.5 s.
    assert_eq!((report.reconciles, report.failover), (53, false));
    assert!(begin.elapsed() <= LAST_START, "{:?}", begin.elapsed());
    assert_eq!(changes(&world.aws.take_calls()), [""; 0]);
    let failures = samples(&world, "ReconcileFailure");
    assert_eq!((failures.len(), failures.iter().sum()), (53, 1.0));
}

/// The real binary runs twice, with sockets, on the wall clock.
#[tokio::test]
async fn i8_two_sandboxes_at_once_fail_over_once_and_somebody_always_serves() {
    let mut world = World::settled(A).await;
    world.aws.target_group(ARN, |group| {
        group.registration_lag = REGISTRATION_LAG;
        group.dictate(A.parse().unwrap(), 6379, "healthy");
    });
    let mut sandboxes = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = dns::Server::start(&Cache::of(&world.zone)).await;
        world.set("DNS_SERVERS", server.address.to_string());
        servers.push(server);
        sandboxes.push(world.sandbox().await);
    }
    let [fresh, stale] = &mut sandboxes[..] else {
        unreachable!("two were started")
    };
    // From now on this sandbox's resolver says A, for the 5 s of the TTL and what is left of a second.
    stale.schedule().await.outcome.unwrap();
    world.point(B);
    world.aws.take_calls();
    let (follows, doubts) = join!(fresh.schedule(), stale.schedule());
    assert_eq!(result(&follows)["failover"], true);
    assert_eq!(result(&doubts)["registered"], json!([]));
    assert_eq!(result(&doubts)["deregistered"], json!([]));
    let calls = world.aws.take_calls();
    assert_never_empty(&[A], &calls);
    assert_eq!(changes(&calls), ["+10.0.2.9", "-10.0.1.7"]);
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
}

/// The end of the line about a doubt that outlives its invocation.
const LATER: &str = "this invocation ends before the time in \"until\". Only an invocation of this sandbox in the 90 s \
                     after that time can decide; otherwise the doubt begins anew";

#[tokio::test]
async fn i8_what_is_left_undone_is_a_warning_that_says_why_and_until_when() {
    let world = World::settled(A).await;
    world.aws.register(ARN, B, 6379);
    let (ttl, addresses) = (60, vec![A.parse().unwrap()]);
    world.answer(Answer::Addresses { ttl, addresses });
    let mut sandbox = world.sandbox().await;
    let begin = SystemTime::now();
    let answer = sandbox.schedule().await;
    let end = SystemTime::now();
    assert_eq!(result(&answer)["deregistered"], json!([]));
    let log = sandbox.log();
    let lines = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let warnings: Vec<_> = lines.filter(|line| line["level"] == "WARN").collect();
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    let reason = warning["reason"].as_str().unwrap();
    assert!(reason.contains("10.0.2.9:6379"), "{warning}");
    assert_eq!(warning["deregister"], json!(["10.0.2.9:6379"]));
    assert_eq!(warning["register"], json!([]));
    assert_eq!(warning["targetGroupArn"], ARN);
    let until = warning["until"].as_str().unwrap();
    let until = DateTime::from_str(until, DateTimeFormat::DateTime).unwrap();
    let until = SystemTime::try_from(until).unwrap() - seconds(ttl.into()) - MARGIN;
    assert!((begin..end).contains(&until), "{warning}");
    let message = warning["message"].as_str().unwrap();
    assert!(message.ends_with(LATER), "{message}");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
}

/// The window has four reconciles. With the longer TTL, none of them decides.
#[tokio::test(start_paused = true)]
async fn i8_a_doubt_is_told_once_in_a_window_and_truly() {
    for (ttl, next) in [
        (60, LATER),
        (
            1,
            "unless DNS says otherwise before, this invocation decides at the time in \"until\"",
        ),
    ] {
        let mut world = World::settled_in_memory(A, 5).await;
        world.set("EVENT_POLL_SECONDS", "3");
        world.aws.settle(ARN, B, 6379);
        world.ttl = ttl;
        world.point(A);
        let mut sandbox = world.sandbox().await;
        let answer = sandbox.invoke(NOTIFICATION, TIMEOUT).await;
        let is_decided = result(&answer)["deregistered"] == json!(["10.0.2.9:6379"]);
        assert_eq!(is_decided, ttl == 1);
        let told = lines(&sandbox, "held back");
        assert_eq!(told.len(), 1, "{told:#?}");
        let message = told[0]["message"].as_str().unwrap();
        assert!(message.ends_with(next), "{message}");
    }
}

/// The next invocation comes within the 90 s, too late, or in another sandbox. It does what the line says.
#[tokio::test(start_paused = true)]
async fn i8_what_is_said_of_a_doubt_that_outlives_its_invocation_comes_true() {
    for (pause, is_another, decides) in [(80, false, true), (300, false, false), (80, true, false)]
    {
        let mut world = World::settled_in_memory(A, 5).await;
        world.aws.settle(ARN, B, 6379);
        world.ttl = 60;
        world.point(A);
        let mut sandbox = world.sandbox().await;
        sandbox.schedule().await;
        assert!(
            lines(&sandbox, "held back")[0]["message"]
                .as_str()
                .unwrap()
                .ends_with(LATER)
        );
        sleep(seconds(pause)).await;
        let mut another = world.sandbox().await;
        let next = if is_another {
            &mut another
        } else {
            &mut sandbox
        };
        let answer = next.schedule().await;
        let is_decided = result(&answer)["deregistered"] == json!(["10.0.2.9:6379"]);
        assert_eq!(is_decided, decides, "{pause} {is_another}");
    }
}

#[tokio::test(start_paused = true)]
async fn i8_two_sandboxes_that_poll_at_once_follow_an_endpoint_there_and_back() {
    let mut world = World::settled_in_memory(A, 5).await;
    world.set("SCHEDULE_POLL_SECONDS", "14");
    world.set("POLL_INTERVAL_SECONDS", "1");
    let move_to = |address: &str| {
        let addresses = vec![address.parse().unwrap()];
        world
            .zone
            .set(ENDPOINT, Answer::Addresses { ttl: 1, addresses });
    };
    move_to(A);
    let (mut first, mut second) = (world.sandbox().await, world.sandbox().await);
    let there_and_back = async {
        sleep(seconds(2)).await;
        move_to(B);
        sleep(seconds(4)).await;
        move_to(A);
    };
    let (first, second, ()) = join!(first.schedule(), second.schedule(), there_and_back);
    for answer in [first, second] {
        assert_eq!(result(&answer)["desired"], json!(["10.0.1.7:6379"]));
    }
    assert_never_empty(&[A], &world.aws.take_calls());
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 initial", "10.0.2.9:6379 draining"]
    );
}

/// One more target empties nothing, and the minutes that the load balancer needs begin. B's removal is held back for
/// longer than any invocation lasts.
#[tokio::test(start_paused = true)]
async fn i8_a_fresh_target_is_registered_at_once_beside_what_is_held_back() {
    for is_first_deployment in [false, true] {
        let world = World::settled_in_memory(A, 3600).await;
        let function = world.function();
        if is_first_deployment {
            // A wrong target was registered minutes ago.
            world.aws.target_group(ARN, |group| {
                group.dictate(A.parse().unwrap(), 6379, "initial");
            });
        } else {
            world.point(B);
            first(function.schedule().await);
            assert_eq!(
                world.group(),
                ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
            );
        }
        world.point(C);
        world.aws.take_calls();
        let begin = Instant::now();
        let report = first(function.schedule().await);
        assert_eq!(targets(&report.registered), ["10.0.3.3:6379"]);
        assert!(begin.elapsed() < A_MOMENT, "{:?}", begin.elapsed());
        assert_eq!(changes(&world.aws.take_calls()), ["+10.0.3.3"]);
        assert!(!report.failover);
    }
}

/// Aurora's name flickers like this in a failover. The second sandbox sees A when the doubt begins, and 13.5 s later,
/// when the doubt could be believed.
#[tokio::test(start_paused = true)]
async fn i8_a_name_that_flickers_undoes_no_failover() {
    let world = World::settled_in_memory(A, 5).await;
    world.point(B);
    first(world.function().schedule().await);
    world.aws.take_calls();
    let another = world.function();
    world.point(A);
    let flicker = async {
        for address in [B, A, B, A, B] {
            sleep(seconds(5)).await;
            world.point(address);
        }
    };
    let (outcome, ()) = join!(another.schedule(), flicker);
    let report = first(outcome);
    assert_eq!(
        (report.failover, changes(&world.aws.take_calls())),
        (false, vec![])
    );
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
}

/// Independence counts from the first answer that came with a description. After an answer without a description,
/// another invocation may have changed the group.
#[tokio::test(start_paused = true)]
async fn i8_a_doubt_begins_with_the_first_answer_that_a_description_goes_with() {
    let world = long_standing(60).await;
    let function = world.function();
    world.aws.inject("DescribeTargetHealth", DENIED);
    function.schedule().await.unwrap_err();
    sleep(seconds(70)).await;
    assert_left_undone(&world, &function).await;
    sleep(seconds(70)).await;
    assert!(first(function.schedule().await).failover);
}

/// An answer that names the target ends the doubt about it, even if the description fails.
#[tokio::test(start_paused = true)]
async fn i8_an_answer_ends_a_doubt_without_a_description() {
    let world = long_standing(60).await;
    let function = world.function();
    assert_left_undone(&world, &function).await;
    sleep(seconds(30)).await;
    world.point(B);
    world.aws.inject("DescribeTargetHealth", DENIED);
    function.schedule().await.unwrap_err();
    world.point(A);
    sleep(seconds(40)).await;
    assert_left_undone(&world, &function).await;
}

/// Another answer, from a cache behind the resolver, ended the doubt.
#[tokio::test(start_paused = true)]
async fn i8_a_doubt_that_a_stray_answer_ended_begins_anew_in_the_same_invocation() {
    let mut world = World::settled_in_memory(A, 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 55);
    world.point(B);
    first(world.function().invoke_within("{}", seconds(16)).await);
    let function = world.function();
    world.point(A);
    world.aws.take_calls();
    let begin = Instant::now();
    let stray = async {
        sleep(Duration::from_millis(4500)).await;
        world.point(B);
        sleep(seconds(1)).await;
        world.point(A);
    };
    let (outcome, ()) = join!(function.schedule(), stray);
    assert!(first(outcome).failover);
    let calls = world.aws.take_calls();
    assert_eq!(changes(&calls), ["+10.0.1.7", "-10.0.2.9"]);
    let registered = calls.iter().find(|call| call.is_change()).unwrap().at - begin;
    let anew = Duration::from_millis(5500);
    let limit = anew + seconds(5) + MARGIN + seconds(5) + A_MOMENT;
    assert!(
        (anew + MARGIN..limit).contains(&registered),
        "{registered:?}"
    );
}

/// New targets are healthy at once. Each of two reconciles registers the target of its own answer, is refused until it
/// starts again, and then describes the other one's target.
#[tokio::test(start_paused = true)]
async fn i8_two_reconciles_that_start_again_leave_a_target() {
    for seed in 0..20 {
        fastrand::seed(seed);
        let world = World::settled_in_memory(A, 60).await;
        world
            .aws
            .target_group(ARN, |group| group.registration_lag = Duration::ZERO);
        let stale = world.function_that_asks(&Cache::of(&world.zone));
        let fresh = world.function();
        world.point(B);
        for function in [&stale, &fresh] {
            first(function.invoke(r#"{"dryRun":true}"#).await);
        }
        world.point(C);
        world.aws.take_calls();
        world.aws.set_latency(seconds(1));
        world.aws.inject_always("DeregisterTargets", THROTTLED);
        let heal = async {
            sleep(seconds(5)).await;
            world.aws.heal();
        };
        let (_, _, ()) = join!(stale.schedule(), fresh.schedule(), heal);
        assert_never_empty(&[A], &world.aws.take_calls());
    }
}

/// A lookup or a description fails when the change can be believed, or before anything else in the invocation.
#[tokio::test(start_paused = true)]
async fn i8_a_failure_does_not_end_the_wait_for_a_doubt() {
    for is_described in [false, true] {
        let world = long_standing(5).await;
        let function = world.function();
        let fail = async {
            sleep(Duration::from_millis(13_200)).await;
            match is_described {
                true => world.aws.inject("DescribeTargetHealth", DENIED),
                false => world.answer(Answer::ServFail),
            }
            sleep(Duration::from_millis(700)).await;
            world.point(A);
        };
        let begin = Instant::now();
        let (outcome, ()) = join!(function.schedule(), fail);
        assert!(first(outcome).failover);
        assert!(begin.elapsed() < seconds(16), "{:?}", begin.elapsed());
    }

    let world = long_standing(60).await;
    let function = world.function();
    assert_left_undone(&world, &function).await;
    sleep(seconds(60)).await;
    world.answer(Answer::ServFail);
    let heal = async {
        sleep(seconds(20)).await;
        world.point(A);
    };
    let (outcome, ()) = join!(function.schedule(), heal);
    let report = first(outcome);
    assert!(report.failover);
    assert!(
        report.reconciles <= 22,
        "DNS is asked every second: {}",
        report.reconciles
    );
}

/// One of two names fails for a while.
#[tokio::test(start_paused = true)]
async fn i8_an_answer_in_part_does_not_end_the_wait_for_a_doubt() {
    let mut world = long_standing(5).await;
    world.follow([ENDPOINT, OTHER_ENDPOINT].map(|name| (name, ARN)));
    world.zone.set(OTHER_ENDPOINT, addresses([A]));
    let function = world.function();
    let fail = async {
        sleep(seconds(5)).await;
        world.zone.set(OTHER_ENDPOINT, Answer::NxDomain);
        sleep(seconds(3)).await;
        world.zone.set(OTHER_ENDPOINT, addresses([A]));
    };
    let (outcome, ()) = join!(function.schedule(), fail);
    assert!(first(outcome).failover);
}

/// The doubt began hours ago, so no invocation waits for it while DNS is out.
#[tokio::test(start_paused = true)]
async fn i8_a_failure_does_not_wait_for_a_doubt_that_slept_too_long() {
    let world = long_standing(60).await;
    let function = world.function();
    assert_left_undone(&world, &function).await;
    sleep(seconds(5 * 3600)).await;
    world.answer(Answer::ServFail);
    let begin = Instant::now();
    function.schedule().await.unwrap_err();
    assert!(begin.elapsed() < seconds(4), "{:?}", begin.elapsed());
}
