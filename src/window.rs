//! When the reconciles of an invocation start, and when it ends: a window of reconciles, of which a
//! plain schedule has one, inside the time that Lambda gives.

use std::time::Duration;

use tokio::time::Instant;

/// When an invocation starts its last reconcile, when it stops working on target groups, and when it
/// answers.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    last_start: Instant,
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
            last_start: timeout - reserve * 3 / 2,
            work: timeout - reserve,
            answer: timeout - reserve / 8,
        }
    }

    /// Whether a reconcile may start after that much more time.
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

/// When a reconcile starts: as soon as it may from `earliest` on, or not at all after `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub earliest: Instant,
    pub latest: Instant,
}

impl Window {
    /// From now on, in steps of so much time, whatever a reconcile takes: a window of 55 s in steps of
    /// 5 s leaves no gap to the next minute's.
    pub fn new(length: Duration, interval: Duration, deadline: Deadline) -> Self {
        let begin = Instant::now();
        Window {
            begin,
            end: (begin + length).min(deadline.last_start),
            interval,
            deadline,
        }
    }

    /// When the next reconcile starts, by when the `last` one did and until when its plan is held back:
    ///
    /// | Before | The next one starts |
    /// | --- | --- |
    /// | no reconcile | now, or as long as there is time for any work |
    /// | any | at the next step of the window, up to its end |
    /// | a plan that is held back | when it can be believed, up to the deadline |
    ///
    /// The earlier of the last two counts; without either the invocation is over.
    pub fn next(
        &self,
        last: Option<Instant>,
        held_until: Option<Instant>,
        now: Instant,
    ) -> Option<Start> {
        let Some(last) = last else {
            let (earliest, latest) = (self.begin, self.deadline.work);
            return Some(Start { earliest, latest });
        };
        let steps = (last - self.begin).div_duration_f64(self.interval).floor();
        let step = self.begin + self.interval.mul_f64(steps + 1.0);
        let starts = [
            Some((step, self.end)),
            held_until.map(|until| (until, self.deadline.last_start)),
        ];
        let starts = starts.into_iter().flatten().map(|(at, latest)| Start {
            earliest: at.max(now),
            latest,
        });
        starts
            .filter(|start| start.earliest <= start.latest)
            .min_by_key(|start| start.earliest)
    }
}
