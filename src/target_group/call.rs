//! A call to Elastic Load Balancing takes its turn, and takes another one each time it is sent again.

use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aws::{self, ATTEMPTS, Cause, Failure, INITIAL_BACKOFF, SdkError};
use crate::pace::{Door, Turn, Urgency};

/// The wait before a refused call takes its turn again. It doubles up to the longest, and a draw shortens it.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// Why a call has no result.
#[derive(Debug)]
pub enum Stop<E> {
    /// Its turn came when what it is based on was too old. It was not sent.
    Expired,
    /// The time of the last call came before its first turn. It was never sent.
    Unsent,
    Failed(E),
}

impl<E> Stop<E> {
    pub fn map<F>(self, failed: impl FnOnce(E) -> F) -> Stop<F> {
        match self {
            Stop::Expired => Stop::Expired,
            Stop::Unsent => Stop::Unsent,
            Stop::Failed(error) => Stop::Failed(failed(error)),
        }
    }
}

/// The attempts of one call. They go on when the reconcile starts again.
#[derive(Debug, Default)]
pub struct Attempts {
    /// This turn came too late. The next attempt takes it.
    in_hand: Option<Turn>,
    failed: u32,
    refused: u32,
    /// Why the last attempt failed, if another one is to follow.
    pub last: Option<Cause>,
    /// The number of all attempts, whatever became of them.
    pub sent: u32,
}

/// When a call may be sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What the call is based on is too old after this time.
    pub act_by: Instant,
    pub last_call: Instant,
}

impl Attempts {
    /// Sends a call when its turn comes. Sends it again after a failure that may pass, and as often as it is refused.
    ///
    /// # Errors
    /// The service's error, which is the last one if no time is left for the next attempt.
    pub async fn send<T, E>(
        &mut self,
        door: &Door,
        urgency: Urgency,
        limits: Limits,
        send: impl AsyncFn() -> Result<T, SdkError<E>>,
    ) -> Result<T, Stop<Cause>>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        loop {
            let turn = match self.in_hand.take() {
                Some(turn) => turn,
                None => match timeout_at(limits.last_call, door.turn(urgency)).await {
                    Ok(turn) if Instant::now() < limits.last_call => turn,
                    _ => return Err(self.last.take().map_or(Stop::Unsent, Stop::Failed)),
                },
            };
            let sent = Instant::now();
            if sent > limits.act_by {
                self.in_hand = Some(turn);
                return Err(Stop::Expired);
            }
            self.sent += 1;
            let error = match send().await {
                Ok(output) => {
                    self.end();
                    return Ok(output);
                }
                Err(error) => error,
            };
            let cause = aws::cause(&error);
            let backoff = match aws::failure(&error) {
                Failure::Throttled => {
                    door.slow_down(sent);
                    self.refused += 1;
                    let doubled = 2_u32.saturating_pow(self.refused - 1);
                    LONGEST_BACKOFF.min(SHORTEST_BACKOFF * doubled)
                }
                Failure::Passing if self.failed + 1 < ATTEMPTS => {
                    self.failed += 1;
                    INITIAL_BACKOFF
                }
                Failure::Passing | Failure::Final => {
                    self.end();
                    return Err(Stop::Failed(cause));
                }
            };
            self.last = Some(cause);
            let next = Instant::now() + backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
            sleep_until(next.min(limits.last_call)).await;
        }
    }

    /// True if a turn was taken and is waiting for its call.
    pub fn has_turn(&self) -> bool {
        self.in_hand.is_some()
    }

    fn end(&mut self) {
        (self.failed, self.refused, self.last) = (0, 0, None);
    }
}
