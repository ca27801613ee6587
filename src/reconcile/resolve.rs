//! Unites the answers of all endpoints of a target group.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use tokio::time::{Instant, timeout};

use super::Context;
use crate::config::{Config, TargetGroupConfig};
use crate::endpoint::{Endpoint, Found, Resolver};
use crate::error::{Error, enumerate};
use crate::plan::{Answer, MAX_ADDRESSES, Moment, RESOLVE};

/// What the endpoints of a target group gave.
pub struct Resolved {
    /// It is in part if some endpoints failed, and `None` if all of them did.
    pub answer: Option<Answer>,
    pub failures: Vec<Error>,
}

/// Resolves all endpoints to one answer. Fails with [`Error::ResolveFailed`] and [`Error::AnswerRefused`], for each
/// endpoint concerned.
///
/// The resolver is made for this reconcile. It has nothing of an earlier one, and two reconciles that ask for
/// the same name at once each get an answer of their own.
pub async fn resolve<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    record_type: RecordType,
) -> Resolved {
    let Context { config, clock, .. } = context;
    let (endpoints, settings) = (&group.endpoints, group.settings);
    let resolver = &context.dns.resolver();
    let now = || Moment {
        wall: clock.now(),
        monotonic: Instant::now(),
    };
    let asked = now();
    let lookups = endpoints.iter().map(async |endpoint| {
        let lookups = resolve_one(config, resolver, endpoint, settings.lookups, record_type);
        let lookups = timeout(RESOLVE, lookups).await;
        lookups.unwrap_or_else(|_| {
            let cause = format!("no answer within {} s", RESOLVE.as_secs());
            Err(resolve_failed(endpoint, cause))
        })
    });
    let (mut addresses, mut ttl, mut failures) = (BTreeSet::new(), Duration::ZERO, Vec::new());
    for lookup in join_all(lookups).await {
        match lookup {
            Ok(found) => {
                addresses.extend(found.addresses);
                ttl = ttl.max(found.ttl);
            }
            Err(error) => failures.push(error),
        }
    }
    let count = addresses.len();
    if count > MAX_ADDRESSES {
        failures.push(Error::AnswerRefused {
            endpoints: enumerate(endpoints),
            reason: format!("it has {count} addresses, and at most {MAX_ADDRESSES} are allowed"),
        });
        addresses.clear();
    }
    let mut answer = Answer::new(addresses, asked, now() + ttl);
    match &mut answer {
        Some(answer) => answer.is_partial = !failures.is_empty(),
        None if failures.is_empty() => {
            let endpoints = enumerate(endpoints);
            failures.push(resolve_failed(&endpoints, "no addresses".to_owned()));
        }
        None => (),
    }
    Resolved { answer, failures }
}

/// Unites the addresses of all lookups of one endpoint, with the longest TTL. The lookups follow one after
/// the other, because hickory answers equal questions that are asked at once with one query.
async fn resolve_one<P: RuntimeProvider>(
    config: &Config,
    resolver: &Result<Resolver<P>, String>,
    endpoint: &Endpoint,
    lookups: u32,
    record_type: RecordType,
) -> Result<Found, Error> {
    let mut found = Found::default();
    for _ in 0..lookups {
        let lookup = match resolver {
            Ok(resolver) => resolver.resolve(endpoint, record_type).await,
            Err(cause) => Err(cause.clone()),
        };
        let lookup = lookup.map_err(|cause| resolve_failed(endpoint, cause))?;
        found.addresses.extend(lookup.addresses);
        found.ttl = found.ttl.max(lookup.ttl);
    }
    let refused = |address| Some((address, config.reason_to_refuse(address)?));
    match found.addresses.iter().copied().find_map(refused) {
        None => Ok(found),
        Some((address, reason)) => Err(Error::AnswerRefused {
            endpoints: endpoint.to_string(),
            reason: format!("{address} is {reason}"),
        }),
    }
}

fn resolve_failed(endpoint: &impl ToString, cause: String) -> Error {
    Error::ResolveFailed {
        endpoint: endpoint.to_string(),
        cause,
    }
}
