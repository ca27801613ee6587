//! A zone fails, and many endpoints move at once. These tests check the figures of section 1 of the contract against
//! the token buckets of Elastic Load Balancing, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use nlb_hostname_target::error::Error;
use stand_in::aws::{Aws, Call, Fault};
use stand_in::elb::TargetGroup;
use stand_in::lost_zone::{self, GROUPS, NEW, OLD};
use stand_in::world::{ARN, Function, PORT, World, group_arn, own_endpoint};
use tokio::join;
use tokio::time::{Instant, sleep};

use crate::reading::{THROTTLED, first, samples, seconds, what_failed};

async fn settled(groups: usize) -> World {
    let mut world = World::settled_in_memory(OLD, 5).await;
    world.settle_many(groups, OLD);
    world
}

async fn warm(world: &World) -> Function {
    let function = world.function();
    function.schedule().await.unwrap();
    sleep(seconds(60)).await;
    world.aws.take_calls();
    world.aws.take_data();
    function
}

fn of<'a>(calls: &'a [Call], action: &str) -> Vec<&'a Call> {
    let calls = calls.iter().filter(|call| call.action == action);
    calls.collect()
}

fn are_all_new(aws: &Aws) -> bool {
    (0..GROUPS).all(|index| {
        let mut targets = aws.summary(&group_arn(index as u64));
        targets.retain(|target| !target.ends_with("draining"));
        matches!(&targets[..], [one] if one.starts_with(NEW))
    })
}

#[tokio::test(start_paused = true)]
async fn settled_groups_that_poll_are_described_once_an_invocation() {
    let played = lost_zone::settled(&mut settled(GROUPS).await).await;
    assert!(played.count("DescribeTargetHealth") <= GROUPS);
    assert_eq!(played.count("PutMetricData"), 1);
    assert_eq!(played.refused(), 0);
    let groups = played.reports[0]["targetGroups"].as_array().unwrap().iter();
    let counts = groups.map(|group| group["reconciles"].as_u64().unwrap());
    assert!(
        counts.min() >= Some(49),
        "one that waits for its first read loses two"
    );
}

#[tokio::test(start_paused = true)]
async fn groups_that_move_at_once_have_moved_within_18_seconds() {
    for draw in 0..20 {
        fastrand::seed(draw);
        let world = settled(GROUPS).await;
        let played = lost_zone::at_once(&world).await;
        let last = played.last_deregister();
        assert!(last < seconds(18), "draw {draw}: {last:?}");
        assert!(are_all_new(&world.aws), "draw {draw}");
        assert_eq!(played.refused(), 0, "draw {draw}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_cold_invocations_share_the_buckets_without_knowing_of_each_other() {
    for draw in 0..20 {
        fastrand::seed(draw);
        let mut world = settled(GROUPS).await;
        let played = lost_zone::three_cold(&mut world).await;
        assert!(are_all_new(&world.aws), "draw {draw}");
        let slowest = played.slowest_register();
        assert!(slowest <= seconds(12), "draw {draw}: {slowest:?}");
        let share = played.refused_share();
        assert!(share <= 0.15, "draw {draw}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_others_empty_for_a_minute_costs_an_error_and_no_target() {
    let world = settled(GROUPS).await;
    let function = warm(&world).await;
    (0..GROUPS).for_each(|index| world.point_one(index, NEW));
    world.aws.limit(1.0);
    let errors = function.schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "DescribeFailed");
    assert!(what_failed(&errors.to_string()).contains("Throttling: Rate exceeded"));
    let summary = world.aws.summary(&group_arn(0));
    assert_eq!(summary, ["10.0.1.7:6379 healthy"]);
    world.aws.limit(0.0);
    sleep(seconds(5)).await;
    function.schedule().await.unwrap();
    assert!(are_all_new(&world.aws));
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_until_the_deadline_fails_as_that_call() {
    for (action, failed) in [
        (
            "DescribeTargetHealth",
            format!("cannot describe the targets of {ARN}"),
        ),
        (
            "RegisterTargets",
            format!("cannot register 10.0.2.9:6379 in {ARN}"),
        ),
    ] {
        let world = World::settled_in_memory(OLD, 5).await;
        let function = world.function();
        world.point(NEW);
        world.aws.inject_always(action, THROTTLED);
        let begin = Instant::now();
        let errors = function.schedule().await.unwrap_err();
        assert!((66.0..67.5).contains(&begin.elapsed().as_secs_f64()));
        let expected = format!("{failed}: Throttling: Rate exceeded");
        assert_eq!(what_failed(&errors.to_string()), expected);
        let calls = world.aws.take_calls();
        let calls = of(&calls, action);
        // The call backs off to 2 s, and every five seconds its answer is too old.
        assert!((20..60).contains(&calls.len()));
        // At first, the wait for the turn takes longer.
        let gaps = calls.windows(2).map(|pair| pair[1].at - pair[0].at);
        let longest = gaps.max().unwrap();
        assert!(longest <= Duration::from_millis(2100), "{longest:?}");
        let first = calls[1].at - calls[0].at;
        assert!(
            first <= Duration::from_millis(250 + 1000 + 100),
            "{first:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_backs_off_for_250_ms_at_first() {
    for draw in 0..20 {
        fastrand::seed(draw);
        let world = World::settled_in_memory(OLD, 5).await;
        world
            .aws
            .inject_where("DescribeTargetHealth", None, THROTTLED, Some(1));
        first(world.function().schedule().await);
        let calls = world.aws.take_calls();
        let calls = of(&calls, "DescribeTargetHealth");
        // The refusal halves the pace of 5 reads a second, so the next turn comes 400 ms later.
        let gap = calls[1].at - calls[0].at;
        assert!(gap <= Duration::from_millis(410), "draw {draw}: {gap:?}");
    }
}

/// The registrations of 20 groups and the descriptions of 40 others are refused. A refused registration starts again
/// after 5 s, and then waits among so many for a description that the deadline comes first.
#[tokio::test(start_paused = true)]
async fn a_group_whose_call_was_refused_fails_as_that_call_without_another_turn() {
    let world = settled(60).await;
    let function = warm(&world).await;
    fastrand::seed(1);
    (0..60).for_each(|index| world.point_one(index, NEW));
    world.aws.inject_always("RegisterTargets", THROTTLED);
    for index in 20..60 {
        let arn = group_arn(index);
        world
            .aws
            .inject_where("DescribeTargetHealth", Some(&arn), THROTTLED, None);
    }
    let errors = function.schedule().await.unwrap_err();
    let calls = world.aws.take_calls();
    let registered = of(&calls, "RegisterTargets").into_iter();
    let registered: BTreeSet<_> = registered.map(|call| call.resource.clone()).collect();
    assert!(registered.len() > 5, "{registered:?}");
    let failed = errors.iter().filter_map(|error| match error {
        Error::RegisterFailed {
            target_group_arn, ..
        } => Some(target_group_arn.clone()),
        _ => None,
    });
    assert_eq!(failed.collect::<BTreeSet<_>>(), registered);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_a_window_is_no_failure() {
    let mut world = World::settled_in_memory(OLD, 5).await;
    world.set("SCHEDULE_POLL_SECONDS", 20);
    let function = world.function();
    let refuse = async {
        sleep(seconds(4)).await;
        world.point(NEW);
        for action in [
            "DescribeTargetHealth",
            "RegisterTargets",
            "DeregisterTargets",
        ] {
            world.aws.inject_where(action, None, THROTTLED, Some(2));
        }
    };
    let (outcome, ()) = join!(function.schedule(), refuse);
    assert!(first(outcome).failover);
    let failures: f64 = samples(&world, "ReconcileFailure").iter().sum();
    assert_eq!(failures, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_a_doubt_is_no_failure() {
    let world = World::settled_in_memory(OLD, 5).await;
    let function = world.function();
    world.point(NEW);
    first(function.schedule().await);
    world.point(OLD);
    world
        .aws
        .inject_where("DescribeTargetHealth", None, THROTTLED, Some(3));
    let report = first(function.schedule().await);
    assert!(report.failover, "it is believed in the same invocation");
}

#[tokio::test(start_paused = true)]
async fn groups_are_described_20_in_a_call_that_is_halved_until_the_bad_arn_stands_alone() {
    let mut world = settled(20).await;
    let missing = group_arn(999);
    let pairs = (0..20).map(|index| (own_endpoint(index), group_arn(index as u64)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.insert(7, (own_endpoint(0), missing.clone()));
    world.aws.add(TargetGroup::ipv4(&missing, PORT));
    world.follow(pairs);
    world.aws.remove(&missing);
    let errors = world.function().schedule().await.unwrap_err();
    assert_eq!(errors.error_type(), "TargetGroupInvalid");
    assert!(errors.to_string().contains(&missing));
    assert_eq!(errors.iter().count(), 1);
    let calls = world.aws.take_calls();
    let described = of(&calls, "DescribeTargetGroups");
    let sizes: Vec<_> = described
        .iter()
        .map(|call| call.resource.split(',').count())
        .collect();
    assert!((8..=2 + 2 * 5).contains(&sizes.len()), "{sizes:?}");
    assert_eq!(sizes.iter().max(), Some(&20));
    assert_eq!(of(&calls, "DescribeTargetHealth").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_for_no_fault_of_an_arn_is_not_halved() {
    let world = settled(20).await;
    let denied = Fault::Error(403, "AccessDenied", "no");
    world.aws.inject_always("DescribeTargetGroups", denied);
    let errors = world.function().schedule().await.unwrap_err();
    assert_eq!(errors.iter().count(), 20);
    assert_eq!(of(&world.aws.take_calls(), "DescribeTargetGroups").len(), 1);
}

/// Returns the groups in the order in which they were described.
fn described(world: &World) -> Vec<usize> {
    let calls = world.aws.take_calls();
    let described = of(&calls, "DescribeTargetHealth").into_iter();
    let index = |call: &Call| {
        let number = call.resource.rsplit('/').next().unwrap();
        usize::from_str_radix(number, 16).unwrap()
    };
    described.map(index).collect()
}

#[tokio::test(start_paused = true)]
async fn urgent_groups_are_described_before_the_others() {
    const ALL: usize = 60;
    let world = settled(ALL).await;
    let function = warm(&world).await;
    for moved in 0..5 {
        world.point_one(moved, NEW);
        described(&world);
        // Half of the 4 s are kept. The other 2 s are enough for 20 reads and 5 to 10 more.
        function.invoke_within("{}", seconds(4)).await.unwrap();
        let reached = described(&world);
        assert!(reached.contains(&moved), "{reached:?}");
        let unsent: Vec<_> = (0..ALL).filter(|index| !reached.contains(index)).collect();
        assert!(unsent.len() > 20);
        sleep(seconds(30)).await;
        function.schedule().await.unwrap();
        let order = described(&world);
        // Twenty of the others may come in the first burst, and one of them stands in front at any time.
        let last = unsent
            .iter()
            .map(|one| order.iter().position(|index| index == one).unwrap());
        assert!(last.max().unwrap() <= unsent.len() + 21, "{order:?}");
        sleep(seconds(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dns_is_asked_200_times_a_second_however_many_lookups_there_are() {
    let mut world = settled(24).await;
    // Each of the twelve groups has two endpoints.
    let pairs = (0..24).map(|index| (own_endpoint(index), group_arn(index as u64 / 2)));
    world.follow(pairs);
    world.set("LOOKUPS_PER_RECONCILE", 32);
    let function = world.function();
    world.zone.take_asked();
    let begin = Instant::now();
    function.schedule().await.unwrap();
    let lookups = world.lookups(begin);
    assert_eq!(lookups.len(), 24 * 32);
    for (index, at) in lookups.iter().enumerate() {
        let most = 200.0 + 200.0 * at;
        assert!((index as f64) < most, "{index} after {at} s");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_by_an_answer_or_a_description_older_than_5_seconds() {
    const MANY: usize = 60;
    let world = settled(MANY).await;
    let function = warm(&world).await;
    world.zone.take_asked();
    (0..MANY).for_each(|index| world.point_one(index, NEW));
    function.schedule().await.unwrap();
    let (asked, calls) = (world.zone.take_asked(), world.aws.take_calls());
    let described = of(&calls, "DescribeTargetHealth");
    let changes: Vec<_> = calls.iter().filter(|call| call.is_change()).collect();
    assert_eq!(changes.len(), 2 * MANY);
    for (index, arn) in (0..MANY).map(|index| (index, group_arn(index as u64))) {
        for change in changes.iter().filter(|call| call.resource == arn) {
            // A call arrives when it is sent, and so does a question.
            let is_fresh = |at: Instant| at <= change.at && change.at <= at + seconds(5);
            let name = own_endpoint(index);
            let mut asked = asked.iter().filter(|asked| asked.name == name);
            assert!(asked.any(|asked| is_fresh(asked.at)), "{change}");
            let mut described = described.iter().filter(|call| call.resource == arn);
            assert!(described.any(|call| is_fresh(call.at)), "{change}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_change_was_never_sent_is_settled_when_its_name_is_back() {
    let mut world = settled(GROUPS).await;
    world.set("SCHEDULE_POLL_SECONDS", 50);
    let function = warm(&world).await;
    // Refused registrations slow the pace down, so that most groups wait longer than their answers are good for.
    world.aws.inject_always("RegisterTargets", THROTTLED);
    let come_and_go = async {
        sleep(seconds(5)).await;
        (0..GROUPS).for_each(|index| world.point_one(index, NEW));
        sleep(seconds(15)).await;
        (0..GROUPS).for_each(|index| world.point_one(index, OLD));
        Instant::now()
    };
    let (outcome, back) = join!(function.schedule(), come_and_go);
    outcome.unwrap();
    let calls = world.aws.take_calls();
    let (tried, described) = (
        of(&calls, "RegisterTargets"),
        of(&calls, "DescribeTargetHealth"),
    );
    let arns = (0..GROUPS).map(|index| group_arn(index as u64));
    let waited: Vec<_> = arns
        .filter(|arn| !tried.iter().any(|call| call.resource == *arn))
        .collect();
    assert!(!waited.is_empty());
    for arn in waited {
        let of_group = described.iter().filter(|call| call.resource == arn);
        let after: Vec<_> = of_group
            .filter(|call| call.at > back + seconds(1))
            .collect();
        assert!(after.is_empty(), "{after:?}");
    }
}
