//! Tests when the next reconcile of a window starts. The function's timeout is the template's 75 s. Of these, 8 s are
//! kept for the last calls and publishing, and 4 s for a last reconcile, which starts at 63 s at the latest.

use std::time::Duration;

use nlb_hostname_target::window::{Deadline, Window};
use tokio::time::{Instant, advance};

const TIMEOUT: u64 = 75;
const LAST_START: u64 = 63;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The name of a case, when its last reconcile started, until when something is held back, the time now, and when the
/// next reconcile starts. All times are in seconds since the window began.
type Case = (&'static str, (u64, Option<u64>, u64), Option<u64>);

async fn assert_starts(length: u64, interval: u64, cases: &[Case]) {
    let begin = Instant::now();
    let deadline = Deadline::before(begin + seconds(TIMEOUT));
    let window = Window::new(seconds(length), seconds(interval), deadline);
    assert_eq!(window.begin(), begin);
    let at = |after: u64| begin + seconds(after);
    for (what, (last, held_until, now), next) in cases {
        let starts = window.next(at(*last), held_until.map(at), at(*now));
        assert_eq!(starts, next.map(at), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_starts_reconciles_on_its_grid() {
    let cases = [
        ("the next step", (0, None, 1), Some(5)),
        ("from within a step", (7, None, 8), Some(10)),
        (
            "a step is over that lasted too long",
            (5, None, 13),
            Some(13),
        ),
        ("the last step", (15, None, 16), Some(20)),
        ("past the end", (20, None, 20), None),
        ("no time for the last step", (15, None, 21), None),
    ];
    assert_starts(20, 5, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn while_something_is_held_back_dns_is_asked_every_second() {
    let cases = [
        ("long before it can be believed", (5, Some(30), 6), Some(6)),
        ("the last one took longer", (5, Some(30), 8), Some(8)),
        ("beyond the window", (20, Some(30), 20), Some(21)),
        ("held until a moment ago", (20, Some(22), 23), Some(23)),
        ("as long as there is time", (62, Some(63), 62), Some(63)),
        ("after the deadline", (20, Some(30), 64), None),
        ("not to be waited for", (5, Some(64), 6), Some(6)),
        (
            "not to be waited for, after the window",
            (20, Some(64), 20),
            None,
        ),
    ];
    assert_starts(20, 5, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_reconcile_ends_with_it_unless_something_is_held_back() {
    let cases = [
        ("nothing is held back", (0, None, 0), None),
        ("held back", (0, Some(14), 0), Some(1)),
        (
            "held back for less than a second more",
            (13, Some(14), 13),
            Some(14),
        ),
        ("held beyond the deadline", (0, Some(64), 0), None),
    ];
    assert_starts(0, 5, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn no_window_starts_a_reconcile_later_than_12_s_before_the_timeout() {
    let cases = [
        (
            "the end of the window is the last start",
            (0, None, 1),
            Some(60),
        ),
        ("a late last start", (0, None, LAST_START), Some(LAST_START)),
        ("too late", (0, None, LAST_START + 1), None),
    ];
    assert_starts(120, 60, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_with_less_time_keeps_half_of_it() {
    let begin = Instant::now();
    let deadline = Deadline::before(begin + seconds(12));
    let window = Window::new(seconds(55), seconds(1), deadline);
    let next = |now| window.next(begin, None, begin + seconds(now));
    assert_eq!(next(3), Some(begin + seconds(3)));
    assert_eq!(next(4), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_what_is_before_its_last_start() {
    let deadline = Deadline::before(Instant::now() + seconds(TIMEOUT));
    assert!(deadline.leaves(seconds(LAST_START)));
    assert!(!deadline.leaves(seconds(LAST_START + 1)));
    advance(seconds(60)).await;
    assert!(deadline.leaves(seconds(3)) && !deadline.leaves(seconds(4)));
}
