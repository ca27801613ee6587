//! Records what happened, in order: at the far ends, and on the way between them and the sandboxes. Only the log and
//! the answers are the function's own word.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stand_in::cloudwatch::Datum;
use stand_in::elb::{TargetDescription, TargetHealth};
use stand_in::tagging::Tags;
use tokio::time::Instant;

use crate::fault::{CallFault, DnsFault};
use crate::sequence::Event;

/// A sandbox from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub sandbox: usize,
    pub number: usize,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// The endpoint is at these addresses from now on.
    Moved {
        endpoint: String,
        to: Vec<IpAddr>,
        /// One of these addresses drains in a group.
        is_failback: bool,
    },
    /// The endpoint cannot be resolved from now on, or can be resolved again.
    Out {
        endpoint: String,
        is_over: bool,
    },
    /// The wall clock was set forward.
    Stepped {
        by: Duration,
    },
    /// Other tools of the account take this share of its calls from now on.
    Others {
        share: f64,
    },
    /// Somebody else changed the group.
    Meddled {
        arn: String,
        target: SocketAddr,
        is_registering: bool,
        /// The targets that the group has now.
        group: Vec<TargetHealth>,
    },
    /// The group has these tags from now on. Without any, it does not belong to the fleet.
    Tagged {
        arn: String,
        tags: Tags,
    },
    /// Somebody deleted the group.
    Deleted {
        arn: String,
    },
    Begun {
        life: Life,
        event: Event,
    },
    /// A question's answer will be wrong, or will not come.
    Disturbed {
        life: Life,
        fault: DnsFault,
    },
    /// A question reached the name server.
    Asked {
        life: Life,
        id: u16,
        name: String,
    },
    /// An answer to a question reached the sandbox that had asked it.
    Answered {
        life: Life,
        id: u16,
        name: String,
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    Called(Call),
    /// The call reached the service, and took effect unless the outcome says otherwise.
    Arrived {
        call: u64,
        outcome: String,
        fault: Option<CallFault>,
        /// The targets that the group has now.
        group: Vec<TargetHealth>,
        data: Vec<Datum>,
        page: Option<Page>,
    },
    /// The service's response came back, whatever it said.
    Returned {
        call: u64,
    },
    Logged {
        life: Life,
        line: Line,
    },
    /// The invocation answered.
    Ended {
        life: Life,
        /// The error that the invocation returned, or that its report contains.
        error: Option<String>,
        is_error: bool,
        /// The number of reconciles that its result counts, if it has a result.
        reconciles: Option<u64>,
    },
    /// The sandbox was lost.
    Lost {
        life: Life,
    },
    /// Lambda had to end the invocation.
    TimedOut {
        life: Life,
    },
    /// Nothing goes wrong from now on.
    Healed,
    /// The groups have to be where DNS is, after this many clean reconciles.
    Settled {
        groups: BTreeMap<String, Vec<TargetHealth>>,
    },
}

/// A page of the fleet's list, with the tags of each group.
#[derive(Debug, Clone)]
pub struct Page {
    pub groups: BTreeMap<String, Tags>,
    pub is_last: bool,
}

#[derive(Debug, Clone)]
pub struct Call {
    pub id: u64,
    pub life: Life,
    pub action: String,
    pub arn: String,
    pub targets: Vec<TargetDescription>,
}

/// A line of the function's log.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub message: String,
    pub is_error: bool,
    pub is_warning: bool,
    pub target_group_arn: String,
    pub error: String,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    calls: u64,
}

/// The record that everything in the simulation writes to.
#[derive(Debug, Clone)]
pub struct History {
    begin: Instant,
    state: Arc<Mutex<State>>,
}

impl History {
    pub fn new() -> Self {
        History {
            begin: Instant::now(),
            state: Arc::default(),
        }
    }

    pub fn write(&self, what: What) {
        let at = self.begin.elapsed();
        let mut state = self.state.lock().expect("no panic while it was locked");
        state.entries.push(Entry { at, what });
    }

    /// Returns a number for a new call.
    pub fn next_call(&self) -> u64 {
        let mut state = self.state.lock().expect("no panic while it was locked");
        state.calls += 1;
        state.calls
    }

    pub fn take(&self) -> Vec<Entry> {
        let mut state = self.state.lock().expect("no panic while it was locked");
        std::mem::take(&mut state.entries)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = char::from(b'A' + self.sandbox as u8);
        match self.number {
            0 => write!(f, "sandbox {name}"),
            number => write!(f, "sandbox {name}{}", number + 1),
        }
    }
}
