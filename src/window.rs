//! When an invocation looks, and when it ends: a window of reconciles, of which a plain schedule has
//! one, inside the time that Lambda gives.

use std::time::Duration;

use tokio::time::Instant;

/// When an invocation begins its last reconcile, when it stops working on target groups, and when it
/// answers.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    last_turn: Instant,
    pub work: Instant,
    pub answer: Instant,
}

impl Deadline {
    /// Kept for publishing and the answer, or half the time where a function is given less.
    const RESERVE: Duration = Duration::from_secs(8);

    /// From the moment at which Lambda ends the invocation.
    pub fn before(timeout: Instant) -> Self {
        let left = timeout.saturating_duration_since(Instant::now());
        let reserve = Self::RESERVE.min(left / 2);
        Deadline {
            // Time for a reconcile that nothing holds up.
            last_turn: timeout - reserve * 3 / 2,
            work: timeout - reserve,
            answer: timeout - reserve / 8,
        }
    }

    /// Whether a reconcile may begin after that much more time.
    pub fn leaves(&self, time: Duration) -> bool {
        Instant::now() + time <= self.last_turn
    }
}

/// The time in which one target group is looked at again and again.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    begin: Instant,
    end: Instant,
    interval: Duration,
    deadline: Deadline,
    /// Waiting for a doubtful answer's TTL prolongs the window to here.
    limit: Instant,
}

/// When a reconcile begins: as soon as it may from `start` on, or not at all after `latest`.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub start: Instant,
    pub latest: Instant,
}

impl Window {
    /// How long an invocation waits, beyond its window, for the TTL of doubtful answers.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// From now on, in steps of so much time, whatever a reconcile takes: a window of 55 s in steps of
    /// 5 s leaves no gap to the next minute's.
    pub fn new(length: Duration, interval: Duration, deadline: Deadline) -> Self {
        let begin = Instant::now();
        Window {
            begin,
            end: (begin + length).min(deadline.last_turn),
            interval,
            deadline,
            limit: (begin + length + Self::PATIENCE).min(deadline.last_turn),
        }
    }

    /// One reconcile, whatever comes of it.
    pub fn of_one(deadline: Deadline) -> Self {
        let window = Window::new(Duration::ZERO, Duration::from_secs(1), deadline);
        Window {
            limit: window.begin,
            ..window
        }
    }

    /// The first reconcile, which may begin as long as there is time for any work.
    pub fn first_turn(&self) -> Turn {
        Turn {
            start: self.begin,
            latest: self.deadline.work,
        }
    }

    /// The reconcile that comes after this one, which ended now; `None` if it was the last.
    pub fn next_turn(&self, this: Turn, look_again_at: Option<Instant>) -> Option<Turn> {
        let intervals = (this.start - self.begin).div_duration_f64(self.interval);
        let next = self.begin + self.interval.mul_f64(intervals.floor() + 1.0);
        let poll = Turn {
            start: next.max(Instant::now()),
            latest: self.end,
        };
        let poll = Some(poll).filter(|poll| poll.start <= poll.latest);
        let look = look_again_at.and_then(|at| self.look_again(at));
        poll.into_iter().chain(look).min_by_key(|turn| turn.start)
    }

    /// The reconcile for which a doubt waits, perhaps beyond the window.
    pub fn look_again(&self, at: Instant) -> Option<Turn> {
        let turn = Turn {
            start: at,
            latest: self.limit,
        };
        Some(turn).filter(|look| look.start <= look.latest)
    }
}
