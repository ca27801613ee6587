//! Tests how fast Elastic Load Balancing and DNS are asked, and which call goes first (section 1 of the contract).

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::join_all;
use nlb_hostname_target::pace::Urgency::{self, Foremost, Ordinary, Urgent};
use nlb_hostname_target::pace::{Door, Pace};
use tokio::join;
use tokio::time::{Instant, sleep};

/// Checks the pace of calls that come at random: `burst` calls are sent at first, and then `per_second` each second.
async fn is_paced(burst: usize, per_second: usize, turn: impl AsyncFn(&Pace)) {
    for seed in 0..100 {
        let begin = Instant::now();
        let pace = Pace::default();
        let times = at_random(seed, async || turn(&pace).await).await;
        for (index, at) in times.iter().enumerate() {
            let most = burst as f64 + per_second as f64 * (*at - begin).as_secs_f64();
            assert!(
                index as f64 <= most,
                "seed {seed}: call {index} after {:?}",
                *at - begin
            );
        }
        for calls in times[burst..].windows(per_second + 1) {
            let took = calls[per_second] - calls[0];
            assert!(
                took >= Duration::from_secs(1),
                "seed {seed}: {per_second} calls and one in {took:?}"
            );
        }
    }
}

/// Returns the times at which 200 calls that come at random are sent.
async fn at_random(seed: u64, turn: impl AsyncFn()) -> Vec<Instant> {
    let times = RefCell::new(Vec::new());
    let mut random = fastrand::Rng::with_seed(seed);
    let calls = (0..200).map(|_| {
        let pause = Duration::from_millis(random.u64(0..90_000));
        let (times, turn) = (&times, &turn);
        async move {
            sleep(pause).await;
            turn().await;
            times.borrow_mut().push(Instant::now());
        }
    });
    join_all(calls).await;
    times.into_inner()
}

#[tokio::test(start_paused = true)]
async fn reads_are_20_at_first_and_then_5_a_second() {
    is_paced(20, 5, async |pace| _ = pace.reads.turn(Urgent).await).await;
}

#[tokio::test(start_paused = true)]
async fn registrations_are_16_at_first_and_then_3_a_second() {
    is_paced(16, 3, async |pace| {
        _ = pace.registrations.turn(Urgent).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lookups_are_200_a_second_and_one_reconcile_has_all_of_its_own_first() {
    let pace = Pace::default();
    let begin = Instant::now();
    let reconcile = async || {
        pace.lookups.turns(150).await;
        begin.elapsed().as_secs_f64()
    };
    let (first, second, third) = join!(reconcile(), reconcile(), reconcile());
    let mut times = [first, second, third];
    times.sort_by(f64::total_cmp);
    assert!(times[0] < 0.01, "{times:?}");
    assert!((1.4..1.8).contains(&times[1]), "{times:?}");
    assert!((2.2..2.3).contains(&times[2]), "{times:?}");
}

/// Returns the order in which calls are sent that come one after the other when the burst is gone.
async fn order(door: &Door, urgencies: &[Urgency]) -> Vec<usize> {
    for _ in 0..20 {
        door.turn(Urgent).await;
    }
    let order = RefCell::new(Vec::new());
    let calls = urgencies.iter().enumerate().map(|(index, urgency)| {
        let order = &order;
        async move {
            sleep(Duration::from_millis(index as u64)).await;
            door.turn(*urgency).await;
            order.borrow_mut().push(index);
        }
    });
    join_all(calls).await;
    order.into_inner()
}

#[tokio::test(start_paused = true)]
async fn urgent_calls_pass_the_ordinary_ones_of_which_one_stands_in_front() {
    let calls = [Ordinary, Ordinary, Ordinary, Urgent, Urgent, Urgent];
    let order = order(&Pace::default().reads, &calls).await;
    // Call 0 stood in front when the urgent calls came. Call 1 comes behind them.
    assert_eq!(order, [0, 3, 4, 5, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_a_turn_waits_passes_the_urgent_ones() {
    let calls = [Urgent, Urgent, Urgent, Ordinary, Foremost, Foremost];
    let order = order(&Pace::default().reads, &calls).await;
    assert_eq!(order, [0, 4, 5, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn urgent_calls_starve_no_ordinary_one() {
    let mut calls = vec![Ordinary; 2];
    calls.extend([Urgent; 20]);
    let pace = Pace::default();
    let order = async {
        let urgent = async {
            sleep(Duration::from_secs(10)).await;
            join_all((0..20).map(|_| pace.registrations.turn(Urgent))).await;
        };
        join!(order(&pace.registrations, &calls), urgent).0
    };
    let order = order.await;
    let place = order.iter().position(|call| *call == 1).unwrap();
    assert!(place <= 21, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_slows_the_calls_down_to_a_third_and_not_for_longer_than_a_minute() {
    let pace = Pace::default();
    let read = async || _ = pace.reads.turn(Urgent).await;
    let seconds = async |calls: usize| {
        let begin = Instant::now();
        for _ in 0..calls {
            read().await;
        }
        begin.elapsed().as_secs_f64()
    };
    seconds(5).await;
    let sent = Instant::now();
    pace.reads.slow_down(sent);
    // If several calls were on their way together, only the first refusal counts.
    pace.reads.slow_down(sent - Duration::from_millis(1));
    let halved = seconds(5).await;
    assert!(
        (1.9..2.1).contains(&halved),
        "{halved}: the burst is gone, too"
    );
    sleep(Duration::from_secs(2)).await;
    let burst = seconds(6).await;
    assert!(
        (2.0..2.5).contains(&burst),
        "{burst}: what went together comes back two seconds later"
    );
    pace.reads.slow_down(Instant::now());
    pace.reads.slow_down(Instant::now());
    let third = seconds(5).await;
    assert!((2.9..3.5).contains(&third), "{third}");
    sleep(Duration::from_secs(60)).await;
    seconds(5).await;
    let whole = seconds(20).await;
    assert!((4.7..4.9).contains(&whole), "{whole}");
}
