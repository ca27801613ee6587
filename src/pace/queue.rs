//! The queue decides which of the waiting calls goes next.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::pin::pin;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::slots::Slots;

/// One turn in this many goes to a call of the spared order, however many calls are more urgent.
const SPARED: u32 = 10;

/// The calls that wait for a turn. They are sorted by their order, and within one order by their place.
pub struct Queue<O>(RefCell<State<O>>, Notify);

/// The permission to send one call.
#[derive(Debug)]
pub struct Turn(());

/// When a call began to wait. A draw decides between calls that began together. Without it, several sandboxes
/// whose calls are refused would all leave the same ones to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    since: Instant,
    draw: u64,
}

struct State<O> {
    slots: Slots,
    waiting: BTreeSet<(O, Place)>,
    turns: u32,
    spared: Option<O>,
}

/// A place in the queue. The call gives it up however the waiting ends.
struct Waiting<'a, O: Ord + Copy> {
    queue: &'a Queue<O>,
    place: (O, Place),
}

impl Place {
    /// Takes a place at the end.
    pub fn now() -> Self {
        Place {
            since: Instant::now(),
            draw: fastrand::u64(..),
        }
    }
}

impl<O: Ord + Copy> Queue<O> {
    pub(super) fn new(slots: Slots) -> Self {
        let state = State {
            slots,
            waiting: BTreeSet::new(),
            turns: 0,
            spared: None,
        };
        Queue(RefCell::new(state), Notify::new())
    }

    /// One turn in ten goes to the call of this order that has waited longest.
    pub(super) fn sparing(self, order: O) -> Self {
        self.0.borrow_mut().spared = Some(order);
        self
    }

    /// Waits for a turn.
    pub async fn turn(&self, order: O, place: Place) -> Turn {
        let waiting = self.enter(order, place);
        // A call that comes at the same moment may be more urgent.
        yield_now().await;
        waiting.turn().await
    }

    /// Waits for `count` turns. The caller goes on once it has all of them.
    pub async fn turns(&self, count: usize, order: O, place: Place) {
        let waiting = self.enter(order, place);
        for _ in 0..count {
            waiting.turn().await;
        }
    }

    /// Returns a turn at once if all calls that ask for one at this moment, or wait already, can have one.
    /// Otherwise it returns `None`, and the caller has to find out first how urgent its call is.
    pub async fn turn_at_once(&self, order: O, place: Place) -> Option<Turn> {
        let waiting = self.enter(order, place);
        yield_now().await;
        let is_room = {
            let state = self.0.borrow();
            state.waiting.len() <= state.slots.count(Instant::now())
        };
        // All callers have counted before the first of them leaves the queue.
        yield_now().await;
        match is_room {
            true => Some(waiting.turn().await),
            false => None,
        }
    }

    /// Slows the calls down, because a call that was `sent` then was refused.
    pub fn slow_down(&self, sent: Instant) {
        let now = Instant::now();
        self.0.borrow_mut().slots.slow_down(sent, now);
        self.1.notify_waiters();
    }

    fn enter(&self, order: O, place: Place) -> Waiting<'_, O> {
        self.0.borrow_mut().waiting.insert((order, place));
        self.1.notify_waiters();
        Waiting {
            queue: self,
            place: (order, place),
        }
    }
}

impl<O: Ord + Copy> Waiting<'_, O> {
    async fn turn(&self) -> Turn {
        let Queue(state, changed) = self.queue;
        loop {
            let mut changed = pin!(changed.notified());
            let next = state.borrow().next();
            match next.filter(|(first, _)| *first == self.place) {
                Some((_, at)) if at <= Instant::now() => {
                    let mut state = state.borrow_mut();
                    state.slots.take(Instant::now());
                    state.turns += 1;
                    return Turn(());
                }
                // A call that comes meanwhile may be more urgent.
                Some((_, at)) => _ = timeout_at(at, &mut changed).await,
                None => changed.await,
            }
        }
    }
}

impl<O: Ord + Copy> Drop for Waiting<'_, O> {
    fn drop(&mut self) {
        self.queue.0.borrow_mut().waiting.remove(&self.place);
        self.queue.1.notify_waiters();
    }
}

impl<O: Ord + Copy> State<O> {
    /// The call that goes next, and when.
    fn next(&self) -> Option<((O, Place), Instant)> {
        let is_spared = |(order, _): &&(O, Place)| Some(*order) == self.spared;
        let spared = self.waiting.iter().find(is_spared);
        let spared = spared.filter(|_| self.turns % SPARED == SPARED - 1);
        let first = spared.or(self.waiting.first())?;
        Some((*first, self.slots.next()?))
    }
}
