//! The door through which calls go one after the other.

use std::cell::RefCell;

use tokio::sync::Mutex;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::slots::Slots;

/// Lets calls through in the order in which they came. More urgent calls pass the others. Of those that are passed, one
/// stands among the more urgent calls, so that they cannot starve it.
pub struct Door {
    slots: RefCell<Slots>,
    front: Mutex<()>,
    urgent: Mutex<()>,
    ordinary: Mutex<()>,
}

/// How urgent a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    Ordinary,
    Urgent,
    /// Another turn waits for the call, which would be wasted otherwise.
    Foremost,
}

/// The permission to send one call.
#[derive(Debug)]
pub struct Turn(());

impl Door {
    pub(super) fn new(slots: Slots) -> Self {
        Door {
            slots: RefCell::new(slots),
            front: Mutex::default(),
            urgent: Mutex::default(),
            ordinary: Mutex::default(),
        }
    }

    /// Waits for a turn.
    pub async fn turn(&self, urgency: Urgency) -> Turn {
        let _ordinary = match urgency {
            Urgency::Ordinary => {
                // An urgent call may come at the same moment.
                yield_now().await;
                Some(self.ordinary.lock().await)
            }
            Urgency::Urgent | Urgency::Foremost => None,
        };
        let _urgent = match urgency {
            Urgency::Ordinary | Urgency::Urgent => Some(self.urgent.lock().await),
            Urgency::Foremost => None,
        };
        let _front = self.front.lock().await;
        self.slot().await;
        Turn(())
    }

    /// Waits for `count` turns. Nobody else has one in between.
    pub async fn turns(&self, count: usize) {
        let _front = self.front.lock().await;
        for _ in 0..count {
            self.slot().await;
        }
    }

    /// Slows the calls down, because a call that was `sent` then was refused.
    pub fn slow_down(&self, sent: Instant) {
        self.slots.borrow_mut().slow_down(sent, Instant::now());
    }

    /// Waits for a slot and takes it. A refusal may move the slot while it is waited for.
    async fn slot(&self) {
        loop {
            let (at, now) = (self.slots.borrow().next(), Instant::now());
            if at <= now {
                return self.slots.borrow_mut().take(now);
            }
            sleep_until(at).await;
        }
    }
}
