//! A window says when the reconciles of an invocation start, and when it ends. It lies inside the time that
//! Lambda gives. A plain schedule has a window of one reconcile.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two reconciles while something is held back: another answer ends the doubt.
const HELD_BACK_INTERVAL: Duration = Duration::from_secs(1);

/// When an invocation starts its last reconcile, when it sends its last call for a target group, when it stops working on
/// target groups, and when it answers.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    last_start: Instant,
    pub last_call: Instant,
    pub work: Instant,
    pub answer: Instant,
}

impl Deadline {
    /// The time that is kept for publishing and the answer. It is half the time if a function is given less.
    const RESERVE: Duration = Duration::from_secs(8);

    /// Counts back from `timeout`, the moment at which Lambda ends the invocation.
    pub fn before(timeout: Instant) -> Self {
        let left = timeout.saturating_duration_since(Instant::now());
        let reserve = Self::RESERVE.min(left / 2);
        Deadline {
            // This leaves time for a reconcile that nothing holds up.
            last_start: timeout - reserve * 3 / 2,
            // A call that is sent later would probably be cut off.
            last_call: timeout - reserve * 9 / 8,
            work: timeout - reserve,
            answer: timeout - reserve / 8,
        }
    }

    /// True if a reconcile may still start after this much more time.
    pub fn leaves(&self, time: Duration) -> bool {
        Instant::now() + time <= self.last_start
    }
}

/// The time in which one target group is reconciled again and again.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    begin: Instant,
    end: Instant,
    interval: Duration,
    deadline: Deadline,
}

impl Window {
    /// Begins a window now. Its steps are one `interval` apart, whatever a reconcile takes: a window of 55 s
    /// in steps of 5 s leaves no gap to the next minute's.
    pub fn new(length: Duration, interval: Duration, deadline: Deadline) -> Self {
        let begin = Instant::now();
        Window {
            begin,
            end: (begin + length).min(deadline.last_start),
            interval,
            deadline,
        }
    }

    /// When the first reconcile starts.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// True if a reconcile may start at that time, for what can be believed then.
    pub fn reaches(&self, held_until: Instant) -> bool {
        held_until <= self.deadline.last_start
    }

    /// When the next reconcile starts, or `None` if the invocation is over. That depends on when the `last` one
    /// started, and until when something is held back:
    ///
    /// | Held back | The next one starts |
    /// | --- | --- |
    /// | nothing | at the next step of the window, up to its end |
    /// | until after the deadline | after a second at the latest, up to the end of the window |
    /// | until then | after a second at the latest and when it can be believed, up to the deadline |
    pub fn next(
        &self,
        last: Instant,
        held_until: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        let steps = (last - self.begin).div_duration_f64(self.interval).floor();
        let step = self.begin + self.interval.mul_f64(steps + 1.0);
        let asks_again = last + HELD_BACK_INTERVAL;
        let (next, latest) = match held_until {
            None => (step, self.end),
            Some(until) if self.reaches(until) => {
                // Where it could be believed already, the last reconcile failed.
                let decides = Some(until).filter(|until| *until > last);
                let next = decides.map_or(asks_again, |until| until.min(asks_again));
                (step.min(next), self.deadline.last_start)
            }
            Some(_) => (step.min(asks_again), self.end),
        };
        Some(next.max(now)).filter(|next| *next <= latest)
    }
}
