//! A call to Elastic Load Balancing takes its turn, and takes another one each time it is sent again.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use tokio::time::{Instant, sleep, timeout_at};

use crate::aws::{self, ATTEMPTS, Cause, Failure, INITIAL_BACKOFF, SdkError};
use crate::error::Error;
use crate::pace::{Pace, Place, Queue, Read, Registration, Turn};

/// The wait before a refused call takes its turn again. It doubles up to the longest, and a draw shortens it.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// Where a target group stands with its calls. A reconcile makes one of them at a time.
#[derive(Debug)]
pub struct Line {
    /// The place dates from the reconcile's beginning, so that the reconcile keeps it when it starts again. A
    /// call that failed goes to the end. It would otherwise take all turns while it is refused.
    place: Cell<Place>,
    /// This turn came when the answer was too old to act on. It is kept for the change that is planned next.
    in_hand: RefCell<Option<Turn>>,
    pub(super) read: Attempts,
    /// A reconcile that starts again keeps its earlier attempts.
    pub(super) change: Attempts,
}

/// The attempts of one call, until it succeeds or fails.
#[derive(Debug)]
pub(super) struct Attempts {
    /// The number of attempts in all. It is not set back.
    sent: Cell<u32>,
    failed: Cell<u32>,
    refused: Cell<u32>,
    stage: RefCell<Stage>,
}

/// What to report about the call that comes next, if the deadline cuts it off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The call was sent, or there is none.
    Open,
    /// The call waits for its first turn.
    Unsent,
    /// The call was refused each time.
    Refused(Error),
}

/// How a call ended, if it did not fail.
#[derive(Debug)]
pub enum Sent<T> {
    Done(T),
    /// What the call is based on was too old before it could be sent.
    TooLate,
}

impl Line {
    pub fn begin() -> Self {
        Line {
            place: Cell::new(Place::now()),
            in_hand: RefCell::default(),
            read: Attempts::default(),
            change: Attempts::default(),
        }
    }

    pub fn place(&self) -> Place {
        self.place.get()
    }

    /// How many calls that change the group were sent.
    pub fn changes_sent(&self) -> u32 {
        self.change.sent.get()
    }

    /// The stage of the change if one is planned, and of the read otherwise.
    pub fn stage(&self) -> Stage {
        match self.change.stage() {
            Stage::Open => self.read.stage(),
            stage => stage,
        }
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Attempts {
            sent: Cell::default(),
            failed: Cell::default(),
            refused: Cell::default(),
            stage: RefCell::new(Stage::Open),
        }
    }
}

impl Attempts {
    fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Notes that the call waits for its turn.
    pub fn wait(&self) {
        if self.failed.get() == 0 && self.stage() == Stage::Open {
            self.stage.replace(Stage::Unsent);
        }
    }

    /// Notes that the call's turn has come.
    pub fn send(&self) {
        self.sent.update(|sent| sent + 1);
        if self.stage() == Stage::Unsent {
            self.stage.replace(Stage::Open);
        }
    }

    /// Notes that the call was refused. It fails with this error if nothing better comes before the deadline.
    pub fn refuse(&self, error: Error) {
        self.stage.replace(Stage::Refused(error));
    }

    /// Notes that the call succeeded or failed.
    pub fn end(&self) {
        self.failed.set(0);
        self.refused.set(0);
        self.stage.replace(Stage::Open);
    }

    fn backoff(&self) -> Duration {
        let refused = self.refused.get();
        self.refused.set(refused + 1);
        let backoff = SHORTEST_BACKOFF * 2_u32.saturating_pow(refused);
        backoff.min(LONGEST_BACKOFF)
    }
}

/// What the calls of one target group share.
pub struct Calls<'a> {
    pub pace: &'a Pace,
    pub line: &'a Line,
}

impl Calls<'_> {
    /// Returns a turn at once, if there is one for all calls that ask at this moment.
    pub async fn read_at_once(&self, read: Read) -> Option<Turn> {
        let reads = &self.pace.reads;
        reads.turn_at_once(read, self.line.place()).await
    }

    /// Sends a call that reads. It uses the `turn` if there is one. Otherwise it waits for its turn, but not
    /// after `act_by`, when the answer that it belongs to is too old to act on.
    pub async fn read<T, E>(
        &self,
        turn: Option<Turn>,
        read: Read,
        act_by: Instant,
        refused: impl Fn(Cause),
        send: impl AsyncFn() -> Result<T, SdkError<E>>,
    ) -> Result<Sent<T>, Cause>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (reads, line) = (&self.pace.reads, self.line);
        let mut turn = turn;
        loop {
            if turn.take().is_none() {
                line.read.wait();
                let turn = reads.turn(read, line.place());
                if Instant::now() > act_by || timeout_at(act_by, turn).await.is_err() {
                    return Ok(Sent::TooLate);
                }
            }
            let outcome = attempt(line, &line.read, reads, &refused, &send).await;
            if let Some(outcome) = outcome {
                return outcome.map(Sent::Done);
            }
        }
    }

    /// Sends a call that changes the group when its turn comes, but not after `act_by`. A turn that comes
    /// later is kept for the change that is planned next.
    pub(super) async fn change<T, E>(
        &self,
        registration: Registration,
        act_by: Instant,
        refused: impl Fn(Cause),
        send: impl AsyncFn() -> Result<T, SdkError<E>>,
    ) -> Result<Sent<T>, Cause>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (registrations, line) = (&self.pace.registrations, self.line);
        loop {
            let in_hand = line.in_hand.take();
            let turn = match in_hand {
                Some(turn) => turn,
                None => {
                    line.change.wait();
                    registrations.turn(registration, line.place()).await
                }
            };
            if Instant::now() > act_by {
                line.in_hand.replace(Some(turn));
                return Ok(Sent::TooLate);
            }
            let outcome = attempt(line, &line.change, registrations, &refused, &send).await;
            if let Some(outcome) = outcome {
                return outcome.map(Sent::Done);
            }
        }
    }
}

/// Makes one attempt. If another one is to follow, it waits for the backoff and returns `None`.
async fn attempt<O: Ord + Copy, T, E>(
    line: &Line,
    attempts: &Attempts,
    queue: &Queue<O>,
    refused: impl Fn(Cause),
    send: impl AsyncFn() -> Result<T, SdkError<E>>,
) -> Option<Result<T, Cause>>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let sent = Instant::now();
    attempts.send();
    let error = match send().await {
        Ok(output) => {
            attempts.end();
            return Some(Ok(output));
        }
        Err(error) => error,
    };
    line.place.set(Place::now());
    let cause = aws::cause(&error);
    let backoff = match aws::failure(&error) {
        Failure::Throttled => {
            queue.slow_down(sent);
            refused(cause);
            attempts.backoff()
        }
        Failure::Passing if attempts.failed.get() + 1 < ATTEMPTS => {
            attempts.failed.update(|failed| failed + 1);
            attempts.stage.replace(Stage::Open);
            INITIAL_BACKOFF
        }
        Failure::Passing | Failure::Final => {
            attempts.end();
            return Some(Err(cause));
        }
    };
    sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    None
}
