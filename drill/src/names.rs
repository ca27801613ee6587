//! Where the endpoint and the load balancer are.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use nlb_hostname_target::endpoint::{Endpoint, Resolver};
use tokio::net::lookup_host;

use crate::arguments::Arguments;

/// The endpoint's addresses, of whichever family it has.
///
/// # Errors
/// Why there are none.
pub async fn resolve(
    resolver: &Resolver<TokioRuntimeProvider>,
    endpoint: &Endpoint,
) -> Result<BTreeSet<IpAddr>, String> {
    let mut causes = BTreeSet::new();
    for record_type in [RecordType::A, RecordType::AAAA] {
        match resolver.resolve(endpoint, record_type).await {
            Ok(found) => return Ok(found.addresses.into_iter().collect()),
            Err(cause) => drop(causes.insert(cause)),
        }
    }
    Err(Vec::from_iter(causes).join(", "))
}

/// Where the load balancer is; at one address at the least.
///
/// # Errors
/// Why it is nowhere.
pub async fn addresses(arguments: &Arguments) -> Result<Vec<SocketAddr>, String> {
    let name = (arguments.load_balancer.as_str(), arguments.port);
    let found = lookup_host(name).await.map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect();
    match found.is_empty() {
        true => Err("the load balancer's name has no address".to_owned()),
        false => Ok(found),
    }
}
