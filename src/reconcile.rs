//! A reconcile of one target group resolves and describes, decides, and applies.

mod apply;
mod known;
mod progress;
mod resolve;

use std::rc::Rc;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_smithy_async::time::SharedTimeSource;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::time::Instant;

use crate::config::{Config, TargetGroupConfig};
use crate::endpoint::Dns;
use crate::error::{Error, Errors};
use crate::pace::Pace;
use crate::plan::{ACT, Answer, Decision, DescribedTarget, Policy, State};
use crate::target_group::{Calls, Sent, TargetGroup, Unknown};
use apply::Change;
use resolve::resolve;

pub use known::Known;
pub use progress::Progress;

/// What a reconcile works with.
pub struct Context<'a, P: RuntimeProvider> {
    pub config: &'a Config,
    pub load_balancing: &'a Client,
    pub dns: &'a Dns<'a, P>,
    /// The clock for the time of day, which goes on while a sandbox is frozen.
    pub clock: &'a SharedTimeSource,
    pub pace: &'a Pace,
    pub unknown: &'a Unknown,
    pub is_dry_run: bool,
}

/// Reconciles one target group in these steps:
///
/// 1. It describes what the group is, once per sandbox.
/// 2. It resolves every endpoint. If something may have changed, it also describes the group's targets. It does both at
///    the same time if all groups that have to be described can have a turn at once. One failure fails the reconcile.
/// 3. It decides, and remembers what that was based on. It stops if the plan is doubtful. In a dry run it
///    reports the plan and stops.
/// 4. It registers, and stops if any of it failed.
/// 5. It deregisters. If all of it succeeded, it says whether it was a failover.
///
/// It starts again if a call's turn comes so late that the answer is too old to act on.
pub async fn reconcile<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    known: &mut Known,
    progress: &mut Progress,
) -> Result<(), Errors> {
    loop {
        match steps(context, group, known, progress).await? {
            Sent::Done(()) => return Ok(()),
            Sent::TooLate => (),
        }
    }
}

async fn steps<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    known: &mut Known,
    progress: &mut Progress,
) -> Result<Sent<()>, Errors> {
    let (config, line) = (context.config, Rc::clone(&progress.line));
    progress.step = Some("describing the target group");
    let properties = match known.properties {
        Some(properties) => properties,
        None => {
            let described = context.unknown.describe(&group.arn, &line).await;
            *known.properties.insert(described?)
        }
    };
    let policy = Policy {
        port: config.target_port.unwrap_or(properties.port),
        keep_cidrs: &config.keep_cidrs,
        misses_before_deregistration: config.misses_before_deregistration,
    };
    let target_group = TargetGroup {
        client: context.load_balancing,
        arn: &group.arn,
        calls: Calls {
            pace: context.pace,
            line: &line,
        },
    };

    progress.step = Some("resolving and describing the targets of");
    let lookups = group.endpoints.len() * config.lookups_per_reconcile as usize;
    let turns = context.pace.lookups.turns(lookups, (), line.place());
    turns.await;
    let act_by = Instant::now() + ACT;
    let is_due = context.is_dry_run || known.is_due();
    let urgency = known.urgency(None, policy);
    let describe_at_once = async {
        let turn = match is_due {
            true => target_group.calls.read_at_once(urgency).await?,
            false => return None,
        };
        let described = target_group.describe_targets(Some(turn), urgency, act_by);
        Some(described.await)
    };
    let (answer, described) = join!(
        resolve(
            config,
            context.dns,
            context.clock,
            &group.endpoints,
            properties.record_type
        ),
        describe_at_once
    );
    if let Ok(answer) = &answer {
        progress.desired = answer.targets(policy.port);
    }
    let described = match (&answer, described) {
        (_, Some(described)) => described,
        // A failed lookup is no reason to describe.
        (Err(_), None) => Ok(Sent::TooLate),
        (Ok(answer), None) => {
            let foreseen = match is_due {
                true => None,
                false => known.foresee(answer, policy),
            };
            if let Some(held_back) = foreseen {
                progress.held_back = held_back;
                return Ok(Sent::Done(()));
            }
            let urgency = known.urgency(Some(answer), policy);
            target_group.describe_targets(None, urgency, act_by).await
        }
    };
    let (answer, described) = match (answer, described) {
        (Ok(answer), Ok(Sent::Done(described))) => (answer, described),
        (answer, described) => {
            if !context.is_dry_run {
                known.see_in_part(answer.as_ref().ok(), described.as_ref().ok(), policy);
            }
            return both(answer, described);
        }
    };
    let is_serving = |one: &DescribedTarget| {
        matches!(one.state, State::Healthy | State::Initial)
            && progress.desired.contains(&one.target)
    };
    progress.is_served = Some(described.iter().any(is_serving));
    if context.is_dry_run {
        let decision = known.dry_run(&answer, &described, policy);
        report_only(decision, &answer, progress);
        return Ok(Sent::Done(()));
    }
    match known.decide(&answer, &described, policy) {
        Decision::HoldBack(held_back) => {
            progress.held_back = Some(held_back);
            Ok(Sent::Done(()))
        }
        Decision::Apply(plan) => {
            let change = Change {
                target_group,
                plan,
                described,
                answer,
                act_by,
            };
            let sent = line.changes_sent();
            let outcome = change.apply(context.clock, known, progress).await;
            if line.changes_sent() == sent {
                known.spared();
            }
            outcome
        }
    }
}

/// Returns all that failed in either. If nothing failed, a description came too late.
fn both<A, B>(answer: Result<A, Errors>, described: Result<B, Error>) -> Result<Sent<()>, Errors> {
    match (answer, described) {
        (Err(errors), Err(error)) => Err(errors.and(error)),
        (answer, described) => {
            answer?;
            described?;
            Ok(Sent::TooLate)
        }
    }
}

/// A dry run reports what would change, either at once or when the plan is believed.
fn report_only(decision: Decision, answer: &Answer, progress: &mut Progress) {
    let plan = match decision {
        Decision::Apply(plan) => plan,
        Decision::HoldBack(held_back) => {
            let plan = held_back.plan.clone();
            progress.held_back = Some(held_back);
            plan
        }
    };
    progress.is_failover = plan.is_failover(answer);
    progress.deregistered = plan.targets_to_deregister();
    progress.registered = plan.register;
}
