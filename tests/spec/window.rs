//! When the next reconcile of a window starts. The function's timeout is the template's 75 s: 8 s are
//! kept for the last calls and publishing, and 4 s for a last reconcile, which starts until 63 s.

use std::time::Duration;

use nlb_hostname_target::window::{Deadline, Start, Window};
use tokio::time::{Instant, advance};

const TIMEOUT: u64 = 75;
const WORK: u64 = 67;
const LAST_START: u64 = 63;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All times are in seconds since the window began: what was before, and from when until when the
/// next reconcile may start.
struct Case {
    what: &'static str,
    last: Option<u64>,
    held_until: Option<u64>,
    now: u64,
    next: Option<(u64, u64)>,
}

fn case(
    what: &'static str,
    (last, held_until, now): (impl Into<Option<u64>>, impl Into<Option<u64>>, u64),
    next: impl Into<Option<(u64, u64)>>,
) -> Case {
    Case {
        what,
        last: last.into(),
        held_until: held_until.into(),
        now,
        next: next.into(),
    }
}

async fn assert_starts(length: u64, interval: u64, cases: impl IntoIterator<Item = Case>) {
    let begin = Instant::now();
    let deadline = Deadline::before(begin + seconds(TIMEOUT));
    let window = Window::new(seconds(length), seconds(interval), deadline);
    let at = |after: u64| begin + seconds(after);
    for case in cases {
        let next = window.next(case.last.map(at), case.held_until.map(at), at(case.now));
        let expected = case.next.map(|(earliest, latest)| Start {
            earliest: at(earliest),
            latest: at(latest),
        });
        assert_eq!(next, expected, "{}", case.what);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_starts_reconciles_on_its_grid_and_waits_for_what_is_held_back() {
    let cases = [
        case("no reconcile yet", (None, None, 0), (0, WORK)),
        case("no reconcile yet, and late", (None, None, 30), (0, WORK)),
        case("the next step", (0, None, 1), (5, 20)),
        case("from within a step", (7, None, 8), (10, 20)),
        case(
            "a step is over that lasted too long",
            (5, None, 13),
            (13, 20),
        ),
        case("the last step", (15, None, 16), (20, 20)),
        case("past the end", (20, None, 20), None),
        case("no time for the last step", (15, None, 21), None),
        case(
            "held until before the next step",
            (5, 8, 6),
            (8, LAST_START),
        ),
        case("held until after the next step", (5, 12, 6), (10, 20)),
        case("held until beyond the window", (15, 30, 16), (20, 20)),
        case(
            "held beyond the window after its end",
            (20, 30, 21),
            (30, LAST_START),
        ),
        case("held until a moment ago", (20, 22, 23), (23, LAST_START)),
        case(
            "held as long as there is time",
            (20, 63, 21),
            (63, LAST_START),
        ),
        case("held beyond the deadline", (20, 64, 21), None),
        case(
            "held beyond the deadline within the window",
            (5, 64, 6),
            (10, 20),
        ),
        case(
            "after a reconcile that lasted beyond the deadline",
            (20, 30, 64),
            None,
        ),
    ];
    assert_starts(20, 5, cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_reconcile_ends_with_it_unless_its_plan_is_held_back() {
    let cases = [
        case("no reconcile yet", (None, None, 0), (0, WORK)),
        case("nothing is held back", (0, None, 1), None),
        case("held back", (0, 14, 1), (14, LAST_START)),
        case("held back again", (14, 28, 15), (28, LAST_START)),
        case("held beyond the deadline", (0, 64, 1), None),
    ];
    assert_starts(0, 5, cases).await;
}

#[tokio::test(start_paused = true)]
async fn no_window_starts_a_reconcile_later_than_12_s_before_the_timeout() {
    let cases = [
        case(
            "the end of the window is the last start",
            (0, None, 1),
            (60, LAST_START),
        ),
        case("a late last start", (0, None, 63), (63, LAST_START)),
        case("too late", (0, None, 64), None),
    ];
    assert_starts(120, 60, cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_with_less_time_keeps_half_of_it() {
    let begin = Instant::now();
    let window = Window::new(
        seconds(55),
        seconds(1),
        Deadline::before(begin + seconds(12)),
    );
    let next = window.next(Some(begin), None, begin);
    let (earliest, latest) = (begin + seconds(1), begin + seconds(3));
    assert_eq!(next, Some(Start { earliest, latest }));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_what_is_before_its_last_start() {
    let deadline = Deadline::before(Instant::now() + seconds(TIMEOUT));
    assert!(deadline.leaves(seconds(LAST_START)));
    assert!(!deadline.leaves(seconds(LAST_START + 1)));
    advance(seconds(60)).await;
    assert!(deadline.leaves(seconds(3)) && !deadline.leaves(seconds(4)));
}
