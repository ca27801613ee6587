//! I8: runs that overlap and whose resolvers hold different answers. The two stories of
//! `src/plan/doubt.rs`, at every offset of one run to the other; and that what is true is believed
//! in time.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use stand_in::aws::{Call, Fault};
use stand_in::dns::{self, Answer, Cache, addresses};
use tokio::join;
use tokio::time::{Instant, sleep, sleep_until};

use crate::virtual_world::{
    REGISTRATION_LAG, VirtualFunction, VirtualWorld, changes, first, invoke, invoke_within, notify,
    targets, tick,
};
use crate::world::{self, ARN, ENDPOINT, OTHER_ENDPOINT, World, result};

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const C: &str = "10.0.3.3";
/// Of the function's two or three looks, with all calls.
const A_MOMENT: Duration = Duration::from_millis(500);
/// A cache that counts in whole seconds may give an answer that much longer.
const TTL_RESOLUTION: Duration = Duration::from_secs(1);
/// From the end of an answer's TTL to when it can be believed.
const GRACE: Duration = Duration::from_millis(4500);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Replays what ELB acknowledged, beginning with `serving`.
///
/// # Panics
/// When a target that drains was all there was.
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

/// The endpoint has just moved from A to B. One sandbox's resolver knows, the other's still says A
/// for as long as the TTL, in seconds, that is left.
async fn torn(poll: u32, left: u64) -> (VirtualWorld, VirtualFunction, VirtualFunction) {
    let mut world = VirtualWorld::settled(A, 30).await;
    world.set("SCHEDULE_POLL_SECONDS", poll);
    let fresh = world.function_that_asks(&Cache::of(&world.zone)).await;
    let stale_cache = Cache::of(&world.zone);
    let stale = world.function_that_asks(&stale_cache).await;
    world.set("SCHEDULE_POLL_SECONDS", 0);
    let once = world.function_that_asks(&stale_cache).await;
    first(tick(&once).await);
    sleep(seconds(30 - left)).await;
    world.point(B);
    world.aws.take_calls();
    (world, fresh, stale)
}

/// Every order in which the calls of two runs can come, to a hundredth of a second.
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
                    tick(&fresh).await
                },
                async {
                    sleep(delay_of_stale).await;
                    tick(&stale).await
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
        let world = VirtualWorld::settled(A, ttl).await;
        let first = world.function_that_asks(&Cache::of(&world.zone)).await;
        let second = world.function_that_asks(&Cache::of(&world.zone)).await;
        world.point(B);
        world.aws.take_calls();
        let hang = Fault::Hang;
        world
            .aws
            .inject_where("DeregisterTargets", None, hang, Some(hangs));
        let moves_back = async {
            sleep(Duration::from_millis(delay)).await;
            world.point(A);
            tick(&second).await
        };
        // Either may fail; another tick follows.
        let _ = join!(tick(&first), moves_back);
        for function in [&first, &second, &first, &second] {
            sleep(seconds(30)).await;
            let _ = tick(function).await;
        }
        assert_never_empty(&[A], &world.aws.take_calls());
        let group = world.group();
        let mut current = group.iter().filter(|line| !line.ends_with("draining"));
        assert!(current.all(|line| line.starts_with(A)), "{group:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn i8_what_took_too_long_is_looked_at_again_at_once() {
    let world = VirtualWorld::settled(A, 0).await;
    let function = world.function().await;
    // The CNAME's TTL says nothing of how long the address is right.
    let chain = Answer::Cname {
        ttl: 300,
        target: "node.example.com".to_owned(),
        is_split: false,
    };
    let ttl = 0;
    let addresses = vec![B.parse().unwrap()];
    let node = Answer::Addresses { ttl, addresses };
    world.zone.set("node.example.com", node);
    world.zone.set(ENDPOINT, chain);
    let slow = Fault::Latency(Duration::from_millis(1500));
    world.aws.inject("RegisterTargets", slow);
    let begin = Instant::now();
    let report = first(tick(&function).await);
    assert_eq!((report.reconciles, report.failover), (2, true));
    assert!(begin.elapsed() < seconds(2), "{:?}", begin.elapsed());
    let failures = world.aws.take_data().into_iter();
    let failures = failures.filter(|datum| datum.metric == "ReconcileFailure");
    let failures = failures.filter(|datum| datum.dimensions[0].0 == "FunctionName");
    let failures = failures.flat_map(|datum| datum.samples).sum::<f64>();
    assert_eq!(failures, 1.0, "the first look's");
}

#[tokio::test(start_paused = true)]
async fn i8_what_drains_is_not_brought_back_however_soon_the_new_one_is_healthy() {
    let (world, fresh, stale) = torn(0, 15).await;
    world
        .aws
        .target_group(ARN, |group| group.registration_lag = Duration::ZERO);
    first(tick(&fresh).await);
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"]
    );
    first(tick(&stale).await);
    assert_eq!(changes(&world.aws.take_calls()), ["+10.0.2.9", "-10.0.1.7"]);
}

#[tokio::test(start_paused = true)]
async fn i8_windows_that_overlap_for_minutes_fail_over_once() {
    for offset in [0, 7, 40, 990, 2500] {
        let (world, fresh, stale) = torn(55, 25).await;
        let run = async |function: &VirtualFunction, offset| {
            sleep(Duration::from_millis(offset)).await;
            for _ in 0..3 {
                first(tick(function).await);
            }
        };
        join!(run(&fresh, 0), run(&stale, offset));
        let calls = world.aws.take_calls();
        assert_never_empty(&[A], &calls);
        assert_eq!(
            changes(&calls),
            ["+10.0.2.9", "-10.0.1.7"],
            "offset {offset}"
        );
    }
}

/// Caches that expire at different times, an endpoint that moves every few seconds, and two windows
/// that overlap all the time: the group always serves, and in the end it is where DNS is.
#[tokio::test(start_paused = true)]
async fn i8_whatever_the_caches_hold_somebody_serves_and_the_truth_wins() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = VirtualWorld::settled(A, random.u32(1..20)).await;
        world.set("SCHEDULE_POLL_SECONDS", 55);
        world.set("POLL_INTERVAL_SECONDS", random.u32(1..6));
        world.aws.take_calls();
        let functions = [
            world.function_that_asks(&Cache::of(&world.zone)).await,
            world.function_that_asks(&Cache::of(&world.zone)).await,
        ];
        let offset = Duration::from_millis(random.u64(0..5000));
        let run = async |function: &VirtualFunction, offset| {
            sleep(offset).await;
            for _ in 0..5 {
                first(tick(function).await);
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
            run(&functions[0], Duration::ZERO),
            run(&functions[1], offset),
            wander
        );
        for function in &functions {
            first(tick(function).await);
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

/// How long after it `moved` there the group has followed the endpoint.
async fn followed(
    world: &VirtualWorld,
    address: &str,
    moved: Instant,
    deadline: Duration,
) -> Duration {
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

/// A moves to B, and 8 s later on to `next`.
async fn moves_twice(next: &str, ttl: u32, poll: u32, interval: u32) -> (VirtualWorld, Duration) {
    let mut world = VirtualWorld::settled(A, ttl).await;
    world.set("SCHEDULE_POLL_SECONDS", poll);
    world.set("POLL_INTERVAL_SECONDS", interval);
    let function = world.function_that_asks(&Cache::of(&world.zone)).await;
    world.point(B);
    let (ticks, elapsed) = join!(
        async {
            let begin = Instant::now();
            for minute in 0..3 {
                sleep_until(begin + seconds(60 * minute)).await;
                first(tick(&function).await);
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
    let () = ticks;
    (world, elapsed)
}

#[tokio::test(start_paused = true)]
async fn i8_a_true_move_back_or_on_completes_within_its_ttl_and_one_turn() {
    for next in [A, C] {
        for (ttl, poll, interval) in [(2, 55, 5), (5, 55, 1), (5, 55, 5), (18, 55, 5), (30, 55, 5)]
        {
            let (_, elapsed) = moves_twice(next, ttl, poll, interval).await;
            // The resolver's cache may give the old answer for one TTL, and then the new one is
            // doubted for another.
            let turn = seconds(interval.into()) + A_MOMENT;
            let limit = 2 * seconds(ttl.into()) + TTL_RESOLUTION + GRACE + turn;
            assert!(elapsed <= limit, "{next}, TTL {ttl}: {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_plain_schedule_waits_for_the_ttl_and_completes_at_its_next_tick() {
    for next in [A, C] {
        let world = VirtualWorld::settled(A, 5).await;
        let function = world.function().await;
        world.point(B);
        first(tick(&function).await);
        sleep(seconds(20)).await;
        world.point(next);
        world.aws.take_calls();
        let begin = Instant::now();
        let report = first(tick(&function).await);
        assert_eq!(report.reconciles, 2);
        assert!(report.failover);
        let took = begin.elapsed();
        assert!(took <= seconds(5) + GRACE + A_MOMENT, "{took:?}");
        assert_eq!(targets(&report.desired), [format!("{next}:6379")]);
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_that_outlasts_the_invocation_changes_nothing_and_is_remembered() {
    let world = VirtualWorld::settled(A, 40).await;
    let function = world.function().await;
    world.point(B);
    first(tick(&function).await);
    world.point(A);
    world.aws.take_calls();
    let begin = Instant::now();
    let report = first(tick(&function).await);
    assert_eq!((report.reconciles, report.failover), (1, false));
    assert!(begin.elapsed() < A_MOMENT, "20 s would not be enough");
    assert_eq!(changes(&world.aws.take_calls()), [""; 0]);

    let other_sandbox = world.function().await;
    sleep_until(begin + seconds(45)).await;
    let report = first(tick(&other_sandbox).await);
    assert_eq!(
        report.reconciles, 1,
        "without the memory it doubts for itself"
    );
    assert_eq!(changes(&world.aws.take_calls()), [""; 0]);

    let report = first(tick(&function).await);
    assert_eq!((report.reconciles, report.failover), (1, true));
    assert_eq!(changes(&world.aws.take_calls()), ["+10.0.1.7", "-10.0.2.9"]);
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_prolongs_a_window_and_nothing_else_does() {
    let mut world = VirtualWorld::settled(A, 15).await;
    world.set("SCHEDULE_POLL_SECONDS", 20);
    let function = world.function().await;
    world.point(B);
    let begin = Instant::now();
    let fail_back = async {
        sleep(seconds(12)).await;
        world.point(A);
    };
    let (outcome, ()) = join!(tick(&function), fail_back);
    let report = first(outcome);
    // Looks at 0, 5, 10, 15 and 20, of which the last two doubt, and then one at 34.5.
    assert_eq!(report.reconciles, 6);
    assert_eq!(
        targets(&report.registered),
        ["10.0.1.7:6379", "10.0.2.9:6379"]
    );
    let took = begin.elapsed();
    assert!((seconds(34)..seconds(36)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i8_a_doubt_is_waited_for_within_the_deadline_only() {
    let world = VirtualWorld::settled(A, 15).await;
    let function = world.function().await;
    world.point(B);
    first(tick(&function).await);
    world.point(A);
    let begin = Instant::now();
    // Of 24 s, 12 are left for looking.
    let report = first(invoke_within(&function, "{}", seconds(24)).await);
    assert_eq!((report.reconciles, report.failover), (1, false));
    assert!(begin.elapsed() < A_MOMENT);
}

#[tokio::test(start_paused = true)]
async fn i8_a_dry_run_reports_a_doubtful_plan_and_remembers_nothing() {
    let world = VirtualWorld::settled(A, 5).await;
    let function = world.function().await;
    world.point(B);
    first(tick(&function).await);
    world.point(A);
    for _ in 0..3 {
        let report = first(invoke(&function, r#"{"dryRun":true}"#).await);
        assert_eq!((report.reconciles, report.failover), (1, true));
        assert_eq!(targets(&report.registered), ["10.0.1.7:6379"]);
        assert_eq!(targets(&report.deregistered), ["10.0.2.9:6379"]);
        sleep(seconds(7)).await;
    }
    let report = first(tick(&function).await);
    assert_eq!(report.reconciles, 2, "the doubt is new");
}

#[tokio::test(start_paused = true)]
async fn i8_a_notification_doubts_like_any_other_run() {
    let (world, fresh, stale) = torn(0, 15).await;
    let (fresh, stale) = join!(tick(&fresh), notify(&stale));
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
    // What the endpoint answers at first and to the second lookup, and what another endpoint of the group does.
    for (at_first, then, other) in [
        (chain(13, "node.example.com"), None, None),
        (chain(1, "shard.example.com"), None, None),
        (address(13), None, None),
        (address(13), Some(address(1)), None),
        (address(1), Some(address(13)), None),
        (address(1), None, Some(address(13))),
        (address(13), None, Some(address(1))),
    ] {
        let mut world = VirtualWorld::settled(A, 1).await;
        world.set("LOOKUPS_PER_RECONCILE", 2);
        if other.is_some() {
            world.set("ENDPOINTS", format!("{ENDPOINT},{OTHER_ENDPOINT}"));
            world.set("TARGET_GROUP_ARNS", format!("{ARN},{ARN}"));
        }
        let function = world.function().await;
        world
            .zone
            .set("shard.example.com", chain(13, "node.example.com"));
        world.zone.set("node.example.com", addresses([A]));
        world.zone.set(OTHER_ENDPOINT, addresses([B]));
        world.point(B);
        first(tick(&function).await);
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
        let (outcome, ()) = join!(tick(&function), change);
        assert!(first(outcome).failover);
        let took = begin.elapsed();
        let case = (at_first, then, other);
        assert!(
            (seconds(17)..seconds(18)).contains(&took),
            "{took:?} of {case:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn i8_two_answers_about_targets_that_were_both_there_for_long_leave_one() {
    for (delay_of_fresh, delay_of_stale) in offsets() {
        let world = VirtualWorld::settled(A, 30).await;
        world.aws.register(ARN, B, 6379);
        sleep(REGISTRATION_LAG).await;
        let fresh = world.function().await;
        let stale = world.function_that_asks(&Cache::of(&world.zone)).await;
        first(invoke(&stale, r#"{"dryRun":true}"#).await);
        world.point(B);
        let begin = Instant::now();
        let run = async |function: &VirtualFunction, delay| {
            for minute in 0..3 {
                sleep_until(begin + seconds(60 * minute) + delay).await;
                first(tick(function).await);
            }
        };
        join!(run(&fresh, delay_of_fresh), run(&stale, delay_of_stale));
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
async fn i8_a_doubt_is_waited_for_also_when_too_many_groups_look_at_once() {
    let mut world = VirtualWorld::settled(A, 14).await;
    for arn in world.feed(30) {
        world.aws.register(&arn, B, 6379);
    }
    world.set("SCHEDULE_POLL_SECONDS", 10);
    world.set("POLL_INTERVAL_SECONDS", 1);
    let function = world.function().await;
    first(tick(&function).await);
    world.point(B);
    sleep(seconds(20)).await;
    first(tick(&function).await);
    world.point(A);
    let report = tick(&function).await.unwrap();
    let followed = report.target_groups.iter().filter(|group| group.failover);
    assert_eq!(followed.count(), 30);
}

#[tokio::test(start_paused = true)]
async fn i8_a_failed_look_does_not_end_the_wait() {
    let mut world = VirtualWorld::settled(A, 15).await;
    world.set("SCHEDULE_POLL_SECONDS", 21);
    let function = world.function().await;
    world.point(B);
    let fail_back = async {
        sleep(seconds(14)).await;
        world.point(A);
        sleep(seconds(5)).await;
        let denied = Fault::Error(400, "AccessDenied", "no");
        world.aws.inject("DescribeTargetHealth", denied);
    };
    let begin = Instant::now();
    let (outcome, ()) = join!(tick(&function), fail_back);
    assert!(first(outcome).failover);
    assert_eq!(world.group()[0], "10.0.1.7:6379 initial");
    let took = begin.elapsed();
    assert!((seconds(34)..seconds(36)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i8_ever_new_doubts_prolong_an_invocation_by_20_s_at_most() {
    let world = VirtualWorld::settled(A, 9).await;
    let function = world.function().await;
    for address in [B, C, A] {
        world.point(address);
        first(tick(&function).await);
    }
    let wander = async {
        for address in [B, C].into_iter().cycle() {
            world.point(address);
            sleep(seconds(9)).await;
        }
    };
    let begin = Instant::now();
    tokio::select! {
        outcome = tick(&function) => { first(outcome); }
        () = wander => (),
    }
    assert!(
        begin.elapsed() <= seconds(20) + A_MOMENT,
        "{:?}",
        begin.elapsed()
    );
}

/// The real binary twice, with sockets, on the wall clock.
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
        world.set("DNS_SERVERS", &server.address.to_string());
        servers.push(server);
        sandboxes.push(world.sandbox().await);
    }
    let [fresh, stale] = &mut sandboxes[..] else {
        unreachable!("two were started")
    };
    // From now on this one's resolver says A, for the 5 s of the TTL and what is left of a second.
    world::tick(stale).await.outcome.unwrap();
    world.point(B);
    world.aws.take_calls();
    let (fresh, stale) = join!(world::tick(fresh), world::tick(stale));
    assert_eq!(result(&fresh)["failover"], true);
    assert_eq!(result(&stale)["registered"], json!([]));
    assert_eq!(result(&stale)["deregistered"], json!([]));
    let calls = world.aws.take_calls();
    assert_never_empty(&[A], &calls);
    assert_eq!(changes(&calls), ["+10.0.2.9", "-10.0.1.7"]);
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 draining", "10.0.2.9:6379 initial"]
    );
}

#[tokio::test]
async fn i8_two_sandboxes_that_poll_at_once_follow_an_endpoint_there_and_back() {
    let mut world = World::settled(A).await;
    world.set("SCHEDULE_POLL_SECONDS", "14");
    world.set("POLL_INTERVAL_SECONDS", "1");
    world.aws.target_group(ARN, |group| {
        group.registration_lag = REGISTRATION_LAG;
        group.dictate(A.parse().unwrap(), 6379, "healthy");
    });
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
    let (first, second, ()) = join!(
        world::tick(&mut first),
        world::tick(&mut second),
        there_and_back
    );
    for answer in [first, second] {
        assert_eq!(result(&answer)["desired"], json!(["10.0.1.7:6379"]));
    }
    assert_never_empty(&[A], &world.aws.take_calls());
    assert_eq!(
        world.group(),
        ["10.0.1.7:6379 initial", "10.0.2.9:6379 draining"]
    );
}
