//! One whole pass over one target group: resolve and describe, decide, apply.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_sdk_elasticloadbalancingv2::Client;
use futures_util::future::join_all;
use tokio::join;

use crate::config::{Config, TargetGroupConfig};
use crate::endpoint::{AddressFamily, Endpoint, Resolver};
use crate::error::{Error, Errors, enumerate};
use crate::plan::{Answer, Plan, Target, plan};
use crate::target_group::{Properties, TargetGroup};

/// More in one group are refused: no cluster has them, a hostile answer may.
const MAX_ADDRESSES: usize = 100;

/// What a reconcile works with. `resolver` is the cause of the failure where none could be made.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub config: &'a Config,
    pub client: &'a Client,
    pub resolver: Result<&'a Resolver, &'a str>,
    pub is_dry_run: bool,
}

/// What is kept of one group between reconciles. All of it may be lost: `properties` is described
/// again, and a failover of which a part was `departed` already is then not counted for that part.
#[derive(Debug, Default)]
pub struct Memory {
    pub properties: Option<Properties>,
    /// Addresses whose deregistration was acknowledged while another one of the same plan failed.
    departed: BTreeSet<IpAddr>,
}

/// How far a reconcile came, written as it goes: true also when the deadline cuts it.
#[derive(Debug, Default)]
pub struct Progress {
    /// `None` before the reconcile began.
    pub step: Option<&'static str>,
    pub desired: BTreeSet<Target>,
    pub registered: BTreeSet<Target>,
    pub deregistered: BTreeSet<Target>,
    pub is_failover: bool,
}

/// 1. Describes what the group is, once per sandbox.
/// 2. Resolves every endpoint and describes the group's targets, concurrently; one failure fails the
///    reconcile.
/// 3. Plans, and in a dry run reports the plan and stops.
/// 4. Registers, and stops if any of it failed.
/// 5. Deregisters; when all of it succeeded, says whether it was a failover.
pub async fn reconcile(
    context: Context<'_>,
    group: &TargetGroupConfig,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<(), Errors> {
    let target_group = TargetGroup {
        client: context.client,
        arn: &group.arn,
    };
    progress.step = Some("describing the target group");
    let properties = properties(&target_group, memory).await?;

    progress.step = Some("resolving and describing the targets of");
    let (answer, described) = join!(
        resolve(context, &group.endpoints, properties.address_family),
        target_group.describe_targets()
    );
    let port = context.config.target_port.unwrap_or(properties.port);
    if let Ok(answer) = &answer {
        progress.desired = answer.targets(port);
    }
    let (answer, described) = both(answer, described)?;

    let plan = plan(&answer, port, &described);
    if context.is_dry_run {
        report_only(&plan, &answer, memory, progress);
        return Ok(());
    }
    apply(&target_group, &plan, memory, progress).await?;
    progress.is_failover = is_failover(memory.departed.iter().copied(), &answer);
    memory.departed.clear();
    Ok(())
}

async fn properties(
    target_group: &TargetGroup<'_>,
    memory: &mut Memory,
) -> Result<Properties, Error> {
    match memory.properties {
        Some(properties) => Ok(properties),
        None => Ok(*memory.properties.insert(target_group.describe().await?)),
    }
}

/// The addresses of all endpoints together; any lookup that failed or was refused fails the whole.
async fn resolve(
    context: Context<'_>,
    endpoints: &[Endpoint],
    family: AddressFamily,
) -> Result<Answer, Errors> {
    let lookups = endpoints
        .iter()
        .map(|endpoint| resolve_one(context, endpoint, family));
    let (mut addresses, mut errors) = (BTreeSet::new(), Vec::new());
    for lookup in join_all(lookups).await {
        match lookup {
            Ok(found) => addresses.extend(found),
            Err(error) => errors.push(error),
        }
    }
    Errors::check(errors)?;
    if addresses.len() > MAX_ADDRESSES {
        Err(Error::AnswerRefused {
            endpoints: enumerate(endpoints),
            reason: format!(
                "{} addresses are more than {MAX_ADDRESSES}",
                addresses.len()
            ),
        })?;
    }
    Answer::new(addresses).ok_or_else(|| {
        Errors::from(Error::ResolveFailed {
            endpoint: enumerate(endpoints),
            cause: "no addresses".to_owned(),
        })
    })
}

async fn resolve_one(
    context: Context<'_>,
    endpoint: &Endpoint,
    family: AddressFamily,
) -> Result<Vec<IpAddr>, Error> {
    let found = match context.resolver {
        Ok(resolver) => resolver.resolve(endpoint, family).await,
        Err(cause) => Err(cause.to_owned()),
    };
    let addresses = found.map_err(|cause| Error::ResolveFailed {
        endpoint: endpoint.to_string(),
        cause,
    })?;
    let is_allowed = |address: &IpAddr| {
        context
            .config
            .allowed_cidrs
            .iter()
            .any(|cidr| cidr.contains(address))
    };
    match addresses.iter().find(|address| !is_allowed(address)) {
        None => Ok(addresses),
        Some(address) => Err(Error::AnswerRefused {
            endpoints: endpoint.to_string(),
            reason: format!("{address} is outside ALLOWED_CIDRS"),
        }),
    }
}

/// Both, or all that failed in either.
fn both<A, B>(answer: Result<A, Errors>, described: Result<B, Error>) -> Result<(A, B), Errors> {
    match (answer, described) {
        (Ok(answer), Ok(described)) => Ok((answer, described)),
        (Err(errors), Ok(_)) => Err(errors),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(errors), Err(error)) => Err(errors.and(error)),
    }
}

fn report_only(plan: &Plan, answer: &Answer, memory: &Memory, progress: &mut Progress) {
    progress.registered = plan.register.clone();
    progress.deregistered = plan.deregister.iter().map(|stale| stale.target).collect();
    let departing = progress.deregistered.iter().map(Target::ip);
    progress.is_failover = is_failover(departing.chain(memory.departed.iter().copied()), answer);
}

/// Whether the endpoint moved away from any of these addresses, all of which were deregistered.
fn is_failover(mut departed: impl Iterator<Item = IpAddr>, answer: &Answer) -> bool {
    departed.any(|address| !answer.contains(address))
}

/// Make before break: nothing is deregistered before every target is registered, so that no failure
/// between the two leaves clients with less than they had.
async fn apply(
    target_group: &TargetGroup<'_>,
    plan: &Plan,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<(), Errors> {
    progress.step = Some("registering in");
    let acknowledge = |targets: &[Target]| progress.registered.extend(targets);
    Errors::check(target_group.register(&plan.register, acknowledge).await)?;

    progress.step = Some("deregistering from");
    let acknowledge = |targets: &[Target]| {
        progress.deregistered.extend(targets);
        memory.departed.extend(targets.iter().map(Target::ip));
    };
    Errors::check(target_group.deregister(&plan.deregister, acknowledge).await)
}
