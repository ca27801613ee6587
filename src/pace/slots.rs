//! When the calls of one invocation may be sent, whoever sends them.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::time::Duration;

use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
/// How long a refused call slows the others down. By then a bucket has been refilled with several tokens
/// for each sandbox, and a sandbox that waits for longer lets the others have all of them.
const SLOW: Duration = Duration::from_secs(5);
const SLOWEST: u32 = 3;

/// A burst of calls at first, and then so many a second, spread over it.
#[derive(Debug)]
pub struct Slots {
    per_second: u32,
    /// When the next calls may be sent, the earliest first.
    free: VecDeque<Instant>,
    /// The rate is divided by it.
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
    pub fn next(&self) -> Option<Instant> {
        self.free.front().copied()
    }

    /// How many calls may be sent now.
    pub fn count(&self, now: Instant) -> usize {
        self.free.partition_point(|at| *at <= now)
    }

    /// The burst is given once; after it, each call makes room for another one a second later. Those
    /// that went together do not come back together.
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

    /// A call was refused: the bucket is empty. Of calls that were on their way together only the first
    /// slows the others down.
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
