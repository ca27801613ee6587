//! Decide: what to register and what to deregister, from what DNS says and what the target group
//! has. Pure: no clock, no network, no state. The two rules that keep clients connected live in
//! types here: an [`Answer`] without addresses cannot be built, so an outage of DNS can never read
//! as "nobody should serve", and a [`Plan`] is made in one place.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Address and port, as the target group knows it. Ordered as the result lists them: IPv4 before
/// IPv6, numerically, then by port; written `10.0.2.9:6379` or `[2001:db8::9]:6379`.
pub type Target = SocketAddr;

/// The addresses DNS gave for the endpoints of one target group; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(BTreeSet<IpAddr>);

impl Answer {
    /// `None` without addresses.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Option<Self> {
        let addresses: BTreeSet<_> = addresses.into_iter().collect();
        (!addresses.is_empty()).then_some(Answer(addresses))
    }

    /// The desired set: every address, at the port.
    pub fn targets(&self, port: u16) -> BTreeSet<Target> {
        self.iter()
            .map(|address| Target::new(address, port))
            .collect()
    }

    /// Whether the endpoints are at this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// In numeric order, IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.iter().copied()
    }
}

/// A target as `DescribeTargetHealth` returned it. `id` and `zone` are kept to the letter, since
/// deregistering is passed back what was described.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescribedTarget {
    pub target: Target,
    pub id: String,
    pub zone: Option<String>,
    pub is_draining: bool,
}

/// What to do to one target group: register, then deregister.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub register: BTreeSet<Target>,
    pub deregister: Vec<DescribedTarget>,
}

/// Registers what is desired and not current, deregisters what is stale.
///
/// A draining target is not current: an address that comes back while it drains is registered
/// again, and a target that drains already is left alone.
pub fn plan(answer: &Answer, port: u16, described: &[DescribedTarget]) -> Plan {
    let desired = answer.targets(port);
    let current = || described.iter().filter(|target| !target.is_draining);
    let current_targets: BTreeSet<_> = current().map(|described| described.target).collect();
    Plan {
        register: &desired - &current_targets,
        deregister: current()
            .filter(|described| !desired.contains(&described.target))
            .cloned()
            .collect(),
    }
}
