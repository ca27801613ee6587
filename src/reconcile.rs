//! One reconcile of one target group: resolve and describe, decide, apply.

mod apply;
mod progress;
mod resolve;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_smithy_async::time::SharedTimeSource;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::time::Instant;

use crate::config::{Config, TargetGroupConfig};
use crate::error::{Error, Errors};
use crate::plan::{
    ACT, Answer, Decision, DescribedTarget, HeldBack, Memory, Policy, State, decide,
};
use crate::target_group::{Properties, Sent, TargetGroup};
use apply::Change;
use resolve::resolve;

pub use progress::Progress;

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

/// What is known of one group between reconciles. All of it may be lost: `properties` is described
/// again, and a change for which something was remembered comes later.
#[derive(Debug, Default)]
pub struct Known {
    pub properties: Option<Properties>,
    memory: Memory,
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
    known: &mut Known,
    progress: &mut Progress,
) -> Result<(), Errors> {
    while steps(context, group, known, progress).await? == Sent::TooLate {}
    Ok(())
}

async fn steps<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    known: &mut Known,
    progress: &mut Progress,
) -> Result<Sent, Errors> {
    let target_group = TargetGroup {
        client: context.load_balancing,
        arn: &group.arn,
    };
    progress.step = Some("describing the target group");
    let properties = properties(&target_group, known).await?;

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

    let (decision, memory) = decide(&answer, &described, &known.memory, policy);
    if context.is_dry_run {
        report_only(decision, &answer, progress);
        return Ok(Sent::All);
    }
    known.memory = memory;
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
            change
                .apply(context.clock, &mut known.memory, progress)
                .await
        }
    }
}

async fn properties(
    target_group: &TargetGroup<'_>,
    known: &mut Known,
) -> Result<Properties, Error> {
    match known.properties {
        Some(properties) => Ok(properties),
        None => Ok(*known.properties.insert(target_group.describe().await?)),
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
    progress.is_failover = plan.is_failover(answer);
    progress.deregistered = plan.targets_to_deregister();
    progress.registered = plan.register;
}
