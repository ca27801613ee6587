//! This module says when an answer is believed. All rules of time are on this page.
//!
//! Invocations may overlap, and their resolvers may hold different answers in their caches. Each invocation
//! applies what is right by its own answer, and yet together they do harm. In these stories the endpoint has
//! moved from A to B, and the second invocation's resolver still says A.
//!
//! A stale answer brings a draining target back:
//! 1. The first invocation registers B and deregisters A, which drains from now on.
//! 2. The second one describes A draining, and B. It would register A and deregister B by its answer.
//! 3. The failover is undone, and done again a minute later, for as long as the caches differ.
//!
//! A stale answer removes the target that another invocation registered a moment ago:
//! 1. The first invocation describes A, and registers B.
//! 2. The second one describes A and B. B is stale by its answer, so it will deregister B.
//! 3. The first one deregisters A.
//! 4. The second one deregisters B. Each kept a target of its own answer, and the group is empty.
//!
//! Two answers remove two targets that were both there for long:
//! 1. A and B are healthy: A could not be deregistered at an earlier failover.
//! 2. The first invocation describes A and B, and deregisters A.
//! 3. The second one, which described them at the same time, deregisters B, and the group is empty.
//!
//! In the first two stories Elastic Load Balancing says what another invocation did: the target is `draining`
//! or `initial`. In the third one it says nothing. So a plan must leave something that no other invocation
//! removes without a doubt: a target that it registers, or a desired one that is `initial`. Any other plan is
//! doubtful and changes nothing.
//!
//! A doubt ends in one of two ways. Another answer or description does not show it any more, or an
//! [independent](Row) answer shows it again and is believed. No cache gives the older answer any more then,
//! so the endpoint did move. The margin after the TTL covers a call that is slow to take effect:
//! 1. The first invocation has registered B and sends the call that deregisters A, which hangs.
//! 2. The endpoint moves back to A. The second invocation doubts, waits for the TTL, and believes.
//! 3. The first one's call takes effect. The second one deregisters B, and the group is empty.
//!
//! No call is sent by an answer that is older than [`ACT`], and every call has taken effect [`EFFECT`] later.
//! All of this is only as good as the resolver: a name that moves to and fro within TTL and margin, or one of
//! several caches behind a resolver, can still mislead two invocations at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Add;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::target::{DescribedTarget, Target};

/// How long an answer may be acted on after its first lookup was sent. The same limit holds for a description.
pub const ACT: Duration = Duration::from_secs(5);
/// The longest time from sending a call to its effect. It is the time limit of one attempt.
pub const EFFECT: Duration = Duration::from_millis(2500);
/// Caches count in whole seconds: Unbound gives an answer with a TTL of 3 s for 3.7 s.
const CACHE_RESOLUTION: Duration = Duration::from_secs(1);
/// The time from the end of an answer's TTL to the first answer that is independent of it.
pub const MARGIN: Duration = ACT.saturating_add(EFFECT).saturating_add(CACHE_RESOLUTION);
/// How long a target counts as initial after its registration was acknowledged, and how long a doubt
/// lasts after it could have been believed.
const RECENT: Duration = Duration::from_secs(90);

/// A time by two clocks. The wall clock jumps when a thawed sandbox is set right, and the monotonic clock may stand still
/// while the sandbox is frozen. Time has passed if both clocks say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub wall: SystemTime,
    pub monotonic: Instant,
}

impl Moment {
    /// True if one of the clocks says so.
    fn is_before(self, other: Moment) -> bool {
        self.wall < other.wall || self.monotonic < other.monotonic
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment {
            wall: self.wall + duration,
            monotonic: self.monotonic + duration,
        }
    }
}

/// The addresses that DNS gave for the endpoints of one target group. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    addresses: BTreeSet<IpAddr>,
    asked: Moment,
    expires: Moment,
}

impl Answer {
    /// Makes an answer, or returns `None` if there are no addresses. Its first lookup was sent when it was
    /// `asked`. It `expires` when its last lookup was answered and the longest TTL has passed since.
    pub fn new(
        addresses: impl IntoIterator<Item = IpAddr>,
        asked: Moment,
        expires: Moment,
    ) -> Option<Self> {
        let addresses: BTreeSet<_> = addresses.into_iter().collect();
        (!addresses.is_empty()).then_some(Answer {
            addresses,
            asked,
            expires,
        })
    }

    /// The desired targets: every address, at the port.
    pub fn targets(&self, port: u16) -> BTreeSet<Target> {
        let addresses = self.addresses.iter();
        addresses
            .map(|address| Target::new(*address, port))
            .collect()
    }

    /// True if the endpoints are at this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// True if the answer has an address that is not among the described targets.
    pub fn has_more_than(&self, described: &[DescribedTarget]) -> bool {
        let described: BTreeSet<_> = described.iter().map(|one| one.target.ip()).collect();
        !self.addresses.is_subset(&described)
    }

    pub(super) fn asked(&self) -> SystemTime {
        self.asked.wall
    }
}

/// True if a target that was `registered` at this time counts as initial at the time of `answer`.
pub(super) fn is_recent(registered: SystemTime, answer: &Answer) -> bool {
    answer.asked.wall < registered + RECENT
}

/// How many independent answers in a row said the same. An answer is independent of an earlier one if it was
/// asked for after that one's TTL and the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub answers: u32,
    /// An answer that is asked for at this time or later is independent of the last one that counted.
    pub independent_from: Moment,
    /// The same time of day for the answer that counted before the last one. A doubt can be believed until 90 s later.
    since: Option<SystemTime>,
}

impl Row {
    /// Adds one more answer that says the same. A dependent answer neither adds to the row nor ends it.
    pub fn with(row: Option<Row>, answer: &Answer) -> Row {
        match row {
            Some(row) if answer.asked.is_before(row.independent_from) => row,
            row => Row {
                answers: row.map_or(0, |row| row.answers) + 1,
                independent_from: answer.expires + MARGIN,
                since: row.map(|row| row.independent_from.wall),
            },
        }
    }

    /// True if a doubt is over: an independent answer said the same, and not too late.
    pub fn is_believed(&self, answer: &Answer) -> bool {
        let until = self.since.map(|since| since + RECENT);
        until.is_some_and(|until| answer.asked.wall < until)
    }
}
