//! What DNS said, and for how long it may be acted on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Target;

/// A TTL is written in whole seconds, and a cache that counts in whole seconds too, as Unbound does,
/// gives an answer until the next one begins.
const TTL_RESOLUTION: Duration = Duration::from_secs(1);
/// From the end of an answer's TTL to the last moment at which a target is deregistered by it: an
/// answer without a TTL would be good for nothing else.
const TIME_TO_ACT: Duration = Duration::from_secs(1);
/// From sending a call to its effect. No caller waits for longer.
const TIME_TO_TAKE_EFFECT: Duration = Duration::from_millis(2500);

/// The addresses DNS gave for the endpoints of one target group; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    addresses: BTreeSet<IpAddr>,
    fresh_until: Instant,
    expires: Instant,
}

impl Answer {
    /// `None` without addresses. It is `fresh_until` the shortest TTL of any part of it has passed, and
    /// `expires` with the longest.
    pub fn new(
        addresses: impl IntoIterator<Item = IpAddr>,
        fresh_until: Instant,
        expires: Instant,
    ) -> Option<Self> {
        let addresses: BTreeSet<_> = addresses.into_iter().collect();
        (!addresses.is_empty()).then_some(Answer {
            addresses,
            fresh_until,
            expires,
        })
    }

    /// The desired set: every address, at the port.
    pub fn targets(&self, port: u16) -> BTreeSet<Target> {
        self.iter()
            .map(|address| Target::new(address, port))
            .collect()
    }

    /// Whether the endpoints are at this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// In numeric order, IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied()
    }

    /// Until when a target may be deregistered by it.
    pub fn is_good_until(&self) -> Instant {
        self.fresh_until + TIME_TO_ACT
    }

    /// When no cache gives an older answer any more, and what was done by one has taken effect.
    pub fn outlives_older_ones_from(&self) -> Instant {
        self.expires + TIME_TO_ACT + TTL_RESOLUTION + TIME_TO_TAKE_EFFECT
    }
}
