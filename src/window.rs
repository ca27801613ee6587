//! A window says when the reconciles of an invocation start, and when it ends. It lies inside the time that
//! Lambda gives. A plain schedule has a window of one reconcile.

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
    /// The time that is kept for publishing and the answer. It is half the time if a function is given less.
    const RESERVE: Duration = Duration::from_secs(8);

    /// Counts back from `timeout`, the moment at which Lambda ends the invocation.
    pub fn before(timeout: Instant) -> Self {
        let left = timeout.saturating_duration_since(Instant::now());
        let reserve = Self::RESERVE.min(left / 2);
        Deadline {
            // This leaves time for a reconcile that nothing holds up.
            last_start: timeout - reserve * 3 / 2,
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

/// When a reconcile starts. It starts as soon as it may from `earliest` on, and not at all after `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub earliest: Instant,
    pub latest: Instant,
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

    /// True if a reconcile may start at that time, for a plan that can be believed then.
    pub fn reaches(&self, held_until: Instant) -> bool {
        held_until <= self.deadline.last_start
    }

    /// When the next reconcile starts. That depends on when the `last` one started, and until when its plan
    /// is held back:
    ///
    /// | Before | The next one starts |
    /// | --- | --- |
    /// | no reconcile | now, as long as there is time for any work |
    /// | any | at the next step of the window, up to its end |
    /// | a plan that is held back | when it can be believed, up to the deadline |
    ///
    /// The earlier of the last two counts. If there is neither, the invocation is over.
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
