//! One whole pass over one target group: resolve and describe, decide, apply.

mod resolve;

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_sdk_elasticloadbalancingv2::Client;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, TargetGroupConfig};
use crate::error::{Error, Errors};
use crate::plan::{self, Answer, Decision, Plan, Policy, Target, decide};
use crate::target_group::{Properties, TargetGroup};
use resolve::resolve;

/// What a reconcile works with.
pub struct Context<'a, P: RuntimeProvider> {
    pub config: &'a Config,
    pub client: &'a Client,
    /// Over which DNS is asked.
    pub network: &'a P,
    pub is_dry_run: bool,
    /// A notification caused it.
    pub is_notification: bool,
}

/// What is kept of one group between reconciles. All of it may be lost: `properties` is described
/// again, a failover of which a part was `departed` already is then not counted for that part, and a
/// change for which something was remembered comes later.
#[derive(Debug, Default)]
pub struct Memory {
    pub properties: Option<Properties>,
    decided: plan::Memory,
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
    /// Nothing more is changed until then: the plan was doubtful, or its answer too old.
    pub look_again_at: Option<Instant>,
}

/// 1. Describes what the group is, once per sandbox.
/// 2. Resolves every endpoint and describes the group's targets, concurrently; one failure fails the
///    reconcile.
/// 3. Decides; in a dry run reports the plan and stops; stops if it is doubtful.
/// 4. Registers, and stops if any of it failed.
/// 5. Deregisters; when all of it succeeded, says whether it was a failover.
///
/// What was decided is remembered once it was carried out.
pub async fn reconcile<P: RuntimeProvider>(
    context: &Context<'_, P>,
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
    let now = Instant::now();
    let (answer, described) = join!(
        resolve(context, &group.endpoints, properties.address_family),
        target_group.describe_targets()
    );
    let policy = policy(context, properties);
    if let Ok(answer) = &answer {
        progress.desired = answer.targets(policy.port);
    }
    let (answer, described) = both(answer, described)?;

    let (decision, decided) = decide(&answer, &described, &memory.decided, policy, now);
    let (plan, look_again_at) = match decision {
        Decision::Apply(plan) => (plan, None),
        Decision::Doubt {
            plan,
            look_again_at,
        } => (plan, Some(look_again_at)),
    };
    progress.look_again_at = look_again_at;
    if context.is_dry_run {
        report_only(&plan, &answer, memory, progress);
        return Ok(());
    }
    if look_again_at.is_none() {
        apply(&target_group, &plan, &answer, memory, progress).await?;
        progress.is_failover = is_failover(memory.departed.iter().copied(), &answer);
        memory.departed.clear();
    }
    memory.decided = decided;
    Ok(())
}

fn policy<'a, P: RuntimeProvider>(context: &Context<'a, P>, properties: Properties) -> Policy<'a> {
    Policy {
        port: context.config.target_port.unwrap_or(properties.port),
        keep_cidrs: &context.config.keep_cidrs,
        misses_before_deregistration: context.config.misses_before_deregistration,
        is_counting: !context.is_notification,
    }
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
    answer: &Answer,
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
    let deregister = target_group.deregister(&plan.deregister, acknowledge);
    let now = Instant::now();
    if !plan.deregister.is_empty() && now >= answer.is_good_until() {
        progress.look_again_at = Some(now);
        return Err(target_group.answer_too_old(&plan.deregister).into());
    }
    match timeout_at(answer.is_good_until(), deregister).await {
        Ok(failures) => Errors::check(failures),
        Err(_) => {
            progress.look_again_at = Some(Instant::now());
            Err(target_group.answer_too_old(&plan.deregister).into())
        }
    }
}
