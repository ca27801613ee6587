//! One reconcile of one target group: resolve and describe, decide, apply.

mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::Client;
use aws_smithy_async::time::SharedTimeSource;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::time::Instant;
use tracing::info;

use crate::config::{Config, TargetGroupConfig};
use crate::error::{Error, Errors, enumerate};
use crate::log::json;
use crate::plan::{
    self, ACT, Answer, Decision, DescribedTarget, HeldBack, Plan, Policy, State, Target, decide,
};
use crate::target_group::{Properties, Sent, TargetGroup};
use resolve::resolve;

/// Targets in one call, as the AWS Load Balancer Controller does it: the API documents no limit of
/// its own. What is left is deregistered by the next reconcile.
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/blob/main/pkg/targetgroupbinding/targets_manager.go>
const TARGETS_PER_CALL: usize = 200;

/// What a reconcile works with.
pub struct Context<'a, P: RuntimeProvider> {
    pub config: &'a Config,
    pub load_balancing: &'a Client,
    /// The network over which DNS is asked.
    pub network: &'a P,
    /// The time of day, which goes on while a sandbox is frozen.
    pub clock: &'a SharedTimeSource,
    pub is_dry_run: bool,
}

/// What is kept of one group between reconciles. All of it may be lost: `properties` is described
/// again, and a change for which something was remembered comes later.
#[derive(Debug, Default)]
pub struct Memory {
    pub properties: Option<Properties>,
    decided: plan::Memory,
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
    /// Whether any desired target is healthy, once that is known.
    pub has_healthy_target: Option<bool>,
    /// The plan was doubtful, and nothing was changed.
    pub held_back: Option<HeldBack>,
}

/// 1. Describes what the group is, once per sandbox.
/// 2. Resolves every endpoint and describes the group's targets, concurrently; one failure fails the
///    reconcile.
/// 3. Decides, and remembers what that was based on. Stops if the plan is doubtful; in a dry run
///    reports it and stops.
/// 4. Registers, and stops if any of it failed.
/// 5. Deregisters; when all of it succeeded, says whether it was a failover.
///
/// It starts again where it comes to a call so late that the answer is too old to act on.
pub async fn reconcile<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<(), Errors> {
    while attempt(context, group, memory, progress).await? == Sent::TooLate {}
    Ok(())
}

async fn attempt<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<Sent, Errors> {
    let target_group = TargetGroup {
        client: context.load_balancing,
        arn: &group.arn,
    };
    progress.step = Some("describing the target group");
    let properties = properties(&target_group, memory).await?;

    progress.step = Some("resolving and describing the targets of");
    let act_by = Instant::now() + ACT;
    let (answer, described) = join!(
        resolve(
            context.config,
            context.network,
            context.clock,
            &group.endpoints,
            properties.record_type
        ),
        target_group.describe_targets()
    );
    let policy = Policy {
        port: context.config.target_port.unwrap_or(properties.port),
        keep_cidrs: &context.config.keep_cidrs,
        misses_before_deregistration: context.config.misses_before_deregistration,
    };
    if let Ok(answer) = &answer {
        progress.desired = answer.targets(policy.port);
    }
    let (answer, described) = both(answer, described)?;
    let is_healthy = |one: &DescribedTarget| {
        one.state == State::Healthy && progress.desired.contains(&one.target)
    };
    progress.has_healthy_target = Some(described.iter().any(is_healthy));

    let (decision, decided) = decide(&answer, &described, &memory.decided, policy);
    if context.is_dry_run {
        report_only(decision, &answer, progress);
        return Ok(Sent::All);
    }
    memory.decided = decided;
    match decision {
        Decision::HoldBack(held_back) => {
            progress.held_back = Some(held_back);
            Ok(Sent::All)
        }
        Decision::Apply(plan) => {
            let change = Change {
                target_group,
                plan,
                described,
                answer,
                act_by,
            };
            apply(context, &change, memory, progress).await
        }
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
        (Err(errors), Err(error)) => Err(errors.and(error)),
        (answer, described) => Ok((answer?, described?)),
    }
}

/// A dry run tells what would change, be it at once or when it is believed.
fn report_only(decision: Decision, answer: &Answer, progress: &mut Progress) {
    let (Decision::Apply(plan) | Decision::HoldBack(HeldBack { plan, .. })) = decision;
    progress.is_failover = is_failover(&plan.deregister, answer);
    progress.deregistered = plan.targets_to_deregister();
    progress.registered = plan.register;
}

/// Whether the endpoint moved away from any of these targets, all of which were deregistered.
fn is_failover(deregistered: &[DescribedTarget], answer: &Answer) -> bool {
    let mut addresses = deregistered.iter().map(|stale| stale.target.ip());
    addresses.any(|address| !answer.contains(address))
}

/// A plan, and what it is based on.
struct Change<'a> {
    target_group: TargetGroup<'a>,
    plan: Plan,
    described: Vec<DescribedTarget>,
    answer: Answer,
    act_by: Instant,
}

/// Make before break: nothing is deregistered before every target is registered, so that no failure
/// between the two leaves clients with less than they had.
async fn apply<P: RuntimeProvider>(
    context: &Context<'_, P>,
    change: &Change<'_>,
    memory: &mut Memory,
    progress: &mut Progress,
) -> Result<Sent, Errors> {
    let Change {
        target_group,
        plan,
        act_by,
        ..
    } = change;
    if !plan.register.is_empty() {
        progress.step = Some("registering in");
        change.log(
            "registering",
            plan.register.iter().copied(),
            "new connections reach them once the load balancer finds them healthy",
        );
        let acknowledge = |targets: &[Target]| {
            progress.registered.extend(targets);
            memory.decided.acknowledge(targets, context.clock.now());
        };
        if target_group
            .register(&plan.register, *act_by, acknowledge)
            .await?
            == Sent::TooLate
        {
            return Ok(Sent::TooLate);
        }
    }
    let stale = &plan.deregister[..plan.deregister.len().min(TARGETS_PER_CALL)];
    if !stale.is_empty() {
        progress.step = Some("deregistering from");
        let targets = stale.iter().map(|stale| stale.target);
        change.log(
            "deregistering",
            targets.clone(),
            "their connections end with the deregistration delay",
        );
        if target_group.deregister(stale, *act_by).await? == Sent::TooLate {
            return Ok(Sent::TooLate);
        }
        progress.deregistered.extend(targets);
        memory.decided.forget(&progress.deregistered);
        progress.is_failover =
            stale.len() == plan.deregister.len() && is_failover(stale, &change.answer);
    }
    Ok(Sent::All)
}

impl Change<'_> {
    /// The line before a change, with what the group has.
    fn log(&self, verb: &str, targets: impl Iterator<Item = Target>, outcome: &str) {
        let targets: Vec<_> = targets.collect();
        let current = self.described.iter().filter(|one| one.is_current());
        let current: BTreeMap<_, _> = current
            .map(|one| (one.target, one.state.as_str()))
            .collect();
        info!(
            "json.targets" = json(&targets),
            "json.current" = json(&current),
            "{verb} {}: {outcome}",
            enumerate(&targets)
        );
    }
}
