//! Finds the addresses of the endpoint and of the load balancer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use nlb_hostname_target::endpoint::{Endpoint, Resolver};
use tokio::net::lookup_host;

use crate::arguments::Arguments;

/// The two families. A name has addresses of one of them, or of both.
pub const EITHER: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// Returns the endpoint's addresses, from the first of these families in which it has any.
///
/// # Errors
/// The error says why there are none.
pub async fn resolve(
    resolver: &Resolver<TokioRuntimeProvider>,
    endpoint: &Endpoint,
    families: &[RecordType],
) -> Result<BTreeSet<IpAddr>, String> {
    let mut causes = BTreeSet::new();
    for family in families {
        match resolver.resolve(endpoint, *family).await {
            Ok(found) => return Ok(found.addresses.into_iter().collect()),
            Err(cause) => drop(causes.insert(cause)),
        }
    }
    Err(Vec::from_iter(causes).join(", "))
}

/// Returns the family of the addresses that were found, so that a failed lookup is not mistaken for a name of the other
/// family.
pub fn family(addresses: &BTreeSet<IpAddr>) -> RecordType {
    match addresses.first() {
        Some(IpAddr::V6(_)) => RecordType::AAAA,
        Some(IpAddr::V4(_)) | None => RecordType::A,
    }
}

/// Returns the load balancer's addresses. There is at least one.
///
/// # Errors
/// The error says why there are none.
pub async fn addresses(arguments: &Arguments) -> Result<Vec<SocketAddr>, String> {
    let name = (arguments.load_balancer.as_str(), arguments.port);
    let found = lookup_host(name).await.map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect();
    match found.is_empty() {
        true => Err("the load balancer's name has no address".to_owned()),
        false => Ok(found),
    }
}
