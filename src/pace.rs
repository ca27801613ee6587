//! How fast an invocation may go, shared by its loops: ELB's token bucket is the whole account's,
//! 40 calls refilled at 10 a second, and other tools live from it too.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Describe calls that may go at first, and in any second after that. A call counts once, whatever
/// the SDK's own retries make of it.
const BURST: u32 = 20;
const PER_SECOND: u32 = 5;
/// Reconciles under way at once: more than a deployment has groups, as long as its variables fit
/// into Lambda's 4 KB.
const CONCURRENCY: usize = 64;

const SECOND: Duration = Duration::from_secs(1);

/// Lent to all loops of one invocation.
pub struct Pace {
    /// The begin of the second whose calls are given out, and how many of them are left.
    second: Cell<(Instant, u32)>,
    permits: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            second: Cell::new((Instant::now(), BURST)),
            permits: Semaphore::new(CONCURRENCY),
        }
    }
}

impl Pace {
    /// Waits until a reconcile that makes so many describe calls may begin.
    pub async fn wait_for(&self, describe_calls: u32) {
        sleep_until(self.reserve(describe_calls)).await;
    }

    /// Waits until not too many reconciles are under way; this one is for as long as what is returned
    /// lives.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    /// When so many more calls may be made together.
    fn reserve(&self, describe_calls: u32) -> Instant {
        let now = Instant::now();
        let (mut second, mut left) = self.second.get();
        let is_over = left < PER_SECOND && now >= second + SECOND;
        if is_over || left < describe_calls {
            (second, left) = (now.max(second + SECOND), PER_SECOND);
        }
        self.second.set((second, left - describe_calls));
        now.max(second)
    }
}
