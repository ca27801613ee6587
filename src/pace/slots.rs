//! Slots say when the calls of one invocation may be sent, whichever loop sends them.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::time::Duration;

use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
/// How long a refused call slows the others down. By then a bucket has been refilled with several tokens for
/// each sandbox. A sandbox that waits for longer leaves all of them to the others.
const SLOW: Duration = Duration::from_secs(5);
const SLOWEST: u32 = 3;

/// The first calls may be sent in a burst. After it there are `per_second` calls a second, spread over the second.
#[derive(Debug)]
pub struct Slots {
    per_second: u32,
    /// When the next calls may be sent, the earliest first.
    free: VecDeque<Instant>,
    /// The rate is divided by this number.
    slowness: u32,
    slowed: Option<Instant>,
}

impl Slots {
    pub fn new(burst: usize, per_second: u32) -> Self {
        Slots {
            per_second,
            free: repeat_n(Instant::now(), burst).collect(),
            slowness: 1,
            slowed: None,
        }
    }

    /// When the next call may be sent.
    pub fn next(&self) -> Instant {
        self.free[0]
    }

    /// Takes a slot. The burst is given once. After it, each call makes room for another one a second later.
    /// Calls that were sent together do not get their next slots together.
    pub fn take(&mut self, now: Instant) {
        if self.slowed.is_some_and(|slowed| now >= slowed + SLOW) {
            (self.slowness, self.slowed) = (1, None);
        }
        self.free.pop_front();
        if self.free.len() < self.per_second as usize {
            let latest = self.free.back().map_or(now, |latest| *latest + self.step());
            self.free
                .push_back(latest.max(now + SECOND * self.slowness));
        }
    }

    /// Slows the calls down, because one was refused and the bucket is empty. If several calls were on their
    /// way together, only the first refusal counts.
    pub fn slow_down(&mut self, sent: Instant, now: Instant) {
        if self.slowed.is_some_and(|slowed| sent < slowed) {
            return;
        }
        self.slowed = Some(now);
        self.slowness = SLOWEST.min(self.slowness + 1);
        self.free.truncate(self.per_second as usize);
        let (step, mut earliest) = (self.step(), now);
        for at in &mut self.free {
            earliest += step;
            *at = earliest.max(*at);
        }
    }

    fn step(&self) -> Duration {
        SECOND * self.slowness / self.per_second
    }
}
