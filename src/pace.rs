//! How fast an invocation may go, shared by its loops: ELB's token bucket is the whole account's,
//! 40 calls refilled at 10 a second, and other tools live from it too.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Describe calls that may go at first, and in any second after that. A call counts once, whatever
/// the SDK's own retries make of it.
const BURST: usize = 20;
const PER_SECOND: usize = 5;
/// Reconciles under way at once: more than a deployment has groups, as long as its variables fit
/// into Lambda's 4 KB.
const CONCURRENCY: usize = 64;

/// Lent to all loops of one invocation.
pub struct Pace {
    /// When the next calls may be made, the earliest first.
    free: RefCell<VecDeque<Instant>>,
    permits: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            free: RefCell::new(VecDeque::from([Instant::now(); BURST])),
            permits: Semaphore::new(CONCURRENCY),
        }
    }
}

impl Pace {
    /// Waits until a reconcile that makes so many describe calls may begin.
    pub async fn wait_for(&self, describe_calls: usize) {
        sleep_until(self.reserve(describe_calls)).await;
    }

    /// Waits until not too many reconciles are under way; this one is for as long as what is returned
    /// lives.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    /// When so many more calls may be made together. The burst is given once; after it, each call makes
    /// room for another one a second later.
    fn reserve(&self, describe_calls: usize) -> Instant {
        let mut free = self.free.borrow_mut();
        let start = free
            .drain(..describe_calls)
            .fold(Instant::now(), Instant::max);
        let missing = PER_SECOND.saturating_sub(free.len());
        free.extend(std::iter::repeat_n(start + Duration::from_secs(1), missing));
        start
    }
}
