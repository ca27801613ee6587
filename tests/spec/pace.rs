//! How fast Elastic Load Balancing and DNS are asked, and who goes first (section 1 of the contract).

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::join_all;
use nlb_hostname_target::pace::{Pace, Place, Read, Registration};
use tokio::join;
use tokio::time::{Instant, sleep};

/// Calls that come whenever they like are sent so many at first, and then so many a second.
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

/// When 200 calls that come at random are sent.
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
    let turn = async |pace: &Pace| _ = pace.reads.turn(Read::Moved, Place::now()).await;
    is_paced(20, 5, turn).await;
}

#[tokio::test(start_paused = true)]
async fn registrations_are_16_at_first_and_then_3_a_second() {
    let turn = async |pace: &Pace| {
        let turn = pace
            .registrations
            .turn(Registration::Register, Place::now());
        _ = turn.await;
    };
    is_paced(16, 3, turn).await;
}

#[tokio::test(start_paused = true)]
async fn lookups_are_200_a_second_and_one_reconcile_has_all_of_its_own_first() {
    let pace = Pace::default();
    let begin = Instant::now();
    let reconcile = async || {
        pace.lookups.turns(150, (), Place::now()).await;
        begin.elapsed().as_secs_f64()
    };
    let (first, second, third) = join!(reconcile(), reconcile(), reconcile());
    let mut times = [first, second, third];
    times.sort_by(f64::total_cmp);
    assert!(times[0] < 0.01, "{times:?}");
    assert!((1.4..1.8).contains(&times[1]), "{times:?}");
    assert!((2.2..2.3).contains(&times[2]), "{times:?}");
}

/// What goes first of calls that wait at one moment, when the burst is gone.
async fn order<T: Clone>(kinds: &[T], turn: impl AsyncFn(T)) -> Vec<usize> {
    let order = RefCell::new(Vec::new());
    let calls = kinds.iter().enumerate().map(|(index, kind)| {
        let (order, turn) = (&order, &turn);
        async move {
            sleep(Duration::from_millis(index as u64)).await;
            turn(kind.clone()).await;
            order.borrow_mut().push(index);
        }
    });
    join_all(calls).await;
    order.into_inner()
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_is_read_first() {
    let pace = Pace::default();
    for _ in 0..20 {
        pace.reads.turn(Read::Moved, Place::now()).await;
    }
    let kinds = [
        Read::Settled,
        Read::Unknown,
        Read::Changed,
        Read::Believed,
        Read::LeftOver,
        Read::Moved,
        Read::Settled,
        Read::Moved,
    ];
    let turn = async |kind| _ = pace.reads.turn(kind, Place::now()).await;
    assert_eq!(order(&kinds, turn).await, [5, 7, 4, 3, 2, 1, 0, 6]);
}

#[tokio::test(start_paused = true)]
async fn registers_go_first_and_one_turn_in_ten_to_the_deregister_that_waited_longest() {
    use Registration::{Deregister, Register};
    let pace = Pace::default();
    for _ in 0..20 {
        pace.registrations.turn(Register, Place::now()).await;
    }
    let mut kinds = vec![Deregister; 3];
    kinds.extend([Register; 16]);
    let turn = async |kind| _ = pace.registrations.turn(kind, Place::now()).await;
    let order = order(&kinds, turn).await;
    // Turns 21 to 29, the thirtieth, and so on.
    let expected = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 12, 13, 14, 15, 16, 17, 18, 1, 2,
    ];
    assert_eq!(order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_slows_the_calls_down_to_a_third_and_not_for_longer_than_a_minute() {
    let pace = Pace::default();
    let read = async || _ = pace.reads.turn(Read::Moved, Place::now()).await;
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
    // Of calls that were on their way together only the first counts.
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
