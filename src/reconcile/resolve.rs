//! The one answer of all endpoints of a target group, or why there is none that can be acted on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use ipnet::IpNet;
use tokio::time::Instant;

use super::Context;
use crate::config::Config;
use crate::endpoint::{AddressFamily, Endpoint, Resolver};
use crate::error::{Error, Errors, enumerate};
use crate::plan::Answer;

/// More in one group are refused: no cluster has them, a hostile answer may.
const MAX_ADDRESSES: usize = 100;

/// The addresses of all endpoints together; any lookup that failed or was refused fails the whole.
///
/// By a resolver that is made for this: it has nothing of an earlier reconcile, and of two that ask
/// for the same name at once, each has an answer of its own.
pub async fn resolve<P: RuntimeProvider>(
    context: &Context<'_, P>,
    endpoints: &[Endpoint],
    family: AddressFamily,
) -> Result<Answer, Errors> {
    let resolver = Resolver::new(&context.config.dns_servers, context.network);
    let lookups = endpoints
        .iter()
        .map(|endpoint| resolve_one(context, &resolver, endpoint, family));
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for lookup in join_all(lookups).await {
        match lookup {
            Ok(resolved) => found.push(resolved),
            Err(error) => errors.push(error),
        }
    }
    Errors::check(errors)?;
    let addresses = found.iter().flat_map(|resolved| &resolved.addresses);
    let addresses: BTreeSet<_> = addresses.copied().collect();
    if addresses.len() > MAX_ADDRESSES {
        Err(Error::AnswerRefused {
            endpoints: enumerate(endpoints),
            reason: format!(
                "{} addresses are more than {MAX_ADDRESSES}",
                addresses.len()
            ),
        })?;
    }
    let now = Instant::now();
    let fresh_until = found.iter().map(|resolved| resolved.fresh_until).min();
    let expires = found.iter().map(|resolved| resolved.expires).max();
    let answer = Answer::new(
        addresses,
        fresh_until.unwrap_or(now),
        expires.unwrap_or(now),
    );
    answer.ok_or_else(|| {
        Errors::from(Error::ResolveFailed {
            endpoint: enumerate(endpoints),
            cause: "no addresses".to_owned(),
        })
    })
}

/// What all lookups of one endpoint found together.
struct Resolved {
    addresses: Vec<IpAddr>,
    /// Of the lookup that is longest so: it suffices that one of them did not see an address.
    fresh_until: Instant,
    /// Of the lookup that lasts longest.
    expires: Instant,
}

/// The addresses of all lookups of one endpoint together. One after the other, because hickory
/// answers equal questions that are asked at once with one query.
async fn resolve_one<P: RuntimeProvider>(
    context: &Context<'_, P>,
    resolver: &Result<Resolver<P>, String>,
    endpoint: &Endpoint,
    family: AddressFamily,
) -> Result<Resolved, Error> {
    let now = Instant::now();
    let mut found = Resolved {
        addresses: Vec::new(),
        fresh_until: now,
        expires: now,
    };
    for _ in 0..context.config.lookups_per_reconcile {
        let lookup = match resolver {
            Ok(resolver) => resolver.resolve(endpoint, family).await,
            Err(cause) => Err(cause.clone()),
        };
        let lookup = lookup.map_err(|cause| Error::ResolveFailed {
            endpoint: endpoint.to_string(),
            cause,
        })?;
        found.addresses.extend(lookup.addresses);
        let now = Instant::now();
        found.fresh_until = found.fresh_until.max(now + lookup.shortest_ttl);
        found.expires = found.expires.max(now + lookup.ttl);
    }
    let refused = |address| Some((address, reason_to_refuse(context.config, address)?));
    match found.addresses.iter().copied().find_map(refused) {
        None => Ok(found),
        Some((address, reason)) => Err(Error::AnswerRefused {
            endpoints: endpoint.to_string(),
            reason: format!("{address} is {reason}"),
        }),
    }
}

/// An address that cannot be right makes the whole answer wrong or hostile.
fn reason_to_refuse(config: &Config, address: IpAddr) -> Option<&'static str> {
    let is_in = |cidrs: &[IpNet]| cidrs.iter().any(|cidr| cidr.contains(&address));
    if !is_in(&config.allowed_cidrs) {
        return Some("outside ALLOWED_CIDRS");
    }
    is_in(&config.keep_cidrs).then_some("inside KEEP_CIDRS")
}
