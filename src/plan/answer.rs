//! A DNS answer, and the time for which it counts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Add;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::target::Target;

/// How long an answer may be acted on after its first lookup was sent. The same limit holds for a description.
pub const ACT: Duration = Duration::from_secs(5);
/// How long the lookups of an answer may take. A second is left to describe and to register.
pub const RESOLVE: Duration = Duration::from_secs(4);
/// The longest time from sending a call to its effect. It is the time limit of one attempt.
pub const EFFECT: Duration = Duration::from_millis(2500);
/// Caches count in whole seconds: Unbound gives an answer with a TTL of 3 s for 3.7 s.
const CACHE_RESOLUTION: Duration = Duration::from_secs(1);
/// The time from the end of an answer's TTL to the first answer that is independent of it.
pub const MARGIN: Duration = ACT.saturating_add(EFFECT).saturating_add(CACHE_RESOLUTION);

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
    /// Some of the group's endpoints gave no answer, so nobody knows which addresses are missing.
    pub is_partial: bool,
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
            is_partial: false,
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

    pub(super) fn asked(&self) -> SystemTime {
        self.asked.wall
    }

    /// True if this answer may be the one of which another is independent only at that moment.
    pub(super) fn is_dependent(&self, independent_from: Moment) -> bool {
        self.asked.is_before(independent_from)
    }

    /// When the first answer can be asked for that is independent of this one.
    pub(super) fn independent_from(&self) -> Moment {
        self.expires + MARGIN
    }
}
