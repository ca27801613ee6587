//! These types hold what was seen, as the services returned it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use aws_sdk_elasticloadbalancingv2::types::{
    TargetGroup as DescribedTargetGroup, TargetGroupIpAddressTypeEnum, TargetHealthDescription,
};
use hickory_resolver::proto::rr::RecordType;

use crate::aws::Cause;
use crate::config::TargetGroupConfig;
use crate::endpoint::{Endpoint, Found, Knowledge};

/// The result of a call, or why there is none.
pub type Look<T> = Result<T, Unseen>;

pub struct Unseen {
    pub action: &'static str,
    pub cause: Cause,
}

pub struct Seen<'a> {
    pub names: Vec<Name<'a>>,
    pub groups: Vec<Group<'a>>,
}

/// An endpoint, as the groups of one address family need it.
pub struct Name<'a> {
    pub endpoint: &'a Endpoint,
    pub record_type: RecordType,
    /// The fewest misses before a deregistration, over these groups.
    pub misses: u32,
    /// The error says why there is no server to ask.
    pub servers: Result<Vec<Server>, String>,
}

/// What one DNS server answered, lookup by lookup.
pub struct Server {
    pub address: SocketAddr,
    pub lookups: Vec<Knowledge>,
}

pub struct Group<'a> {
    pub config: &'a TargetGroupConfig,
    pub description: Look<DescribedTargetGroup>,
    pub attributes: Look<Attributes>,
    pub targets: Look<Vec<TargetHealthDescription>>,
    pub load_balancers: Vec<Look<LoadBalancer>>,
}

/// The attributes of a target group or a load balancer, as keys and values.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html>
pub struct Attributes(pub Vec<(String, String)>);

pub struct LoadBalancer {
    pub arn: String,
    /// The zones in which the load balancer is enabled.
    pub zones: BTreeSet<String>,
    pub attributes: Look<Attributes>,
}

impl Name<'_> {
    /// The answers of all servers.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        let servers = self.servers.iter().flatten();
        servers.flat_map(Server::found)
    }

    /// The union of all addresses that were found.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let found = self.found();
        found.flat_map(|found| found.addresses.clone()).collect()
    }
}

impl Server {
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.lookups.iter().flatten().flatten()
    }

    /// True if the server said anything about the name, be it that there is none.
    pub fn knows(&self) -> bool {
        self.lookups.iter().any(Result::is_ok)
    }

    /// Why the last lookup found nothing.
    pub fn why_not(&self) -> Option<&String> {
        match self.lookups.last()? {
            Ok(known) => known.as_ref().err(),
            Err(cause) => Some(cause),
        }
    }

    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let found = self.found();
        found.flat_map(|found| found.addresses.clone()).collect()
    }
}

impl Group<'_> {
    /// The type of record that the group's endpoints are asked for, if that is known.
    pub fn record_type(&self) -> Option<RecordType> {
        let description = self.description.as_ref().ok()?;
        Some(match description.ip_address_type() {
            Some(TargetGroupIpAddressTypeEnum::Ipv6) => RecordType::AAAA,
            _ => RecordType::A,
        })
    }
}

impl Attributes {
    pub fn get(&self, key: &str) -> Option<&str> {
        let attribute = self.0.iter().find(|(name, _)| name == key);
        attribute.map(|(_, value)| value.as_str())
    }
}
