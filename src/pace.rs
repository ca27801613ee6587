//! How fast an invocation may go, shared by its loops: ELB's token bucket is the whole account's,
//! 40 calls refilled at 10 a second, and other tools live from it too.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Describe calls that may go at once, and the pause for each one after them. A call counts once,
/// whatever the SDK's own retries make of it.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(200);
/// Reconciles under way at once: more than a deployment has groups, as long as its variables fit
/// into Lambda's 4 KB.
const CONCURRENCY: usize = 64;

/// Lent to all loops of one invocation.
pub struct Pace {
    burst: Cell<u32>,
    next: Cell<Instant>,
    permits: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            burst: Cell::new(BURST),
            next: Cell::new(Instant::now()),
            permits: Semaphore::new(CONCURRENCY),
        }
    }
}

impl Pace {
    /// Waits until a reconcile that makes so many describe calls may begin.
    pub async fn wait_for(&self, describe_calls: u32) {
        if let Some(start) = self.reserve(describe_calls) {
            sleep_until(start).await;
        }
    }

    /// Waits until not too many reconciles are under way; this one is for as long as what is returned
    /// lives.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    /// When calls that the burst does not cover may be made.
    fn reserve(&self, describe_calls: u32) -> Option<Instant> {
        let now = Instant::now();
        let covered = describe_calls.min(self.burst.get());
        self.burst.set(self.burst.get() - covered);
        if covered > 0 {
            self.next.set(now + INTERVAL);
        }
        let uncovered = describe_calls - covered;
        if uncovered == 0 {
            return None;
        }
        let start = self.next.get().max(now) + INTERVAL * (uncovered - 1);
        self.next.set(start + INTERVAL);
        Some(start)
    }
}
