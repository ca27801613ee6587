//! A reconcile of one target group resolves, describes, decides, and applies.

mod apply;
mod outcome;
mod remembered;
mod resolve;

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_smithy_async::time::SharedTimeSource;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, TargetGroupConfig};
use crate::endpoint::Dns;
use crate::error::{Error, Errors};
use crate::pace::Pace;
use crate::plan::{ACT, Answer, DescribedTarget, Done, Due, Plan, Policy, State, Target};
use crate::target_group::{Properties, Stop, TargetGroup, describe_target_groups};
use crate::window::Deadline;
use resolve::resolve;

pub use outcome::{Outcome, Step};
pub use remembered::Remembered;

/// What a reconcile works with.
pub struct Context<'a, P: RuntimeProvider> {
    pub config: &'a Config,
    pub load_balancing: &'a Client,
    pub dns: &'a Dns<'a, P>,
    /// The clock for the time of day, which goes on while a sandbox is frozen.
    pub clock: &'a SharedTimeSource,
    pub pace: &'a Pace,
    pub deadline: Deadline,
    pub is_dry_run: bool,
}

/// A reconcile, and how far it has come.
struct Reconcile<'a, P: RuntimeProvider> {
    context: &'a Context<'a, P>,
    group: &'a TargetGroupConfig,
    remembered: &'a mut Remembered,
    target_group: TargetGroup<'a>,
    outcome: Outcome,
    done: Done,
    /// The change that was logged last.
    logged: Option<(Step, BTreeSet<Target>)>,
    /// What a dry run would do.
    planned: Option<Plan>,
    /// The endpoints that could not be resolved.
    unresolved: Vec<Error>,
}

/// Reconciles one target group until the deadline at the latest. It starts again at its first step if a call's turn
/// comes so late that the answer is too old to act on.
pub async fn reconcile<P: RuntimeProvider>(
    context: &Context<'_, P>,
    group: &TargetGroupConfig,
    remembered: &mut Remembered,
) -> Outcome {
    let (client, deadline) = (context.load_balancing, context.deadline);
    let mut reconcile = Reconcile {
        context,
        group,
        remembered,
        target_group: TargetGroup::new(client, &group.arn, context.pace, deadline),
        outcome: Outcome::default(),
        done: Done::default(),
        logged: None,
        planned: None,
        unresolved: Vec::new(),
    };
    loop {
        match timeout_at(deadline.work, reconcile.start()).await {
            Ok(Err(Stop::Expired)) => (),
            Ok(stopped) => return reconcile.end(stopped),
            Err(_) => {
                let cut_off = Error::DeadlineExceeded {
                    step: reconcile.outcome.step,
                    target_group_arn: group.arn.to_string(),
                };
                return reconcile.end(Err(Stop::Failed(cut_off.into())));
            }
        }
    }
}

impl<'a, P: RuntimeProvider> Reconcile<'a, P> {
    /// 1. Describes what the group is, once per sandbox.
    /// 2. Resolves every endpoint. An answer in part goes on, and fails the reconcile at its end.
    /// 3. Stops if the last description shows that nothing can be done. Otherwise describes the group's targets.
    /// 4. Decides what is done now and what is held back. A dry run reports that and stops.
    /// 5. Registers, and stops if any of it failed. Then deregisters.
    async fn start(&mut self) -> Result<(), Stop<Errors>> {
        let properties = self.properties().await?;
        let policy = self.policy(properties);
        let (answer, act_by) = self.resolve(properties).await;
        let Some(answer) = answer else {
            return Ok(());
        };
        if !answer.is_partial {
            self.outcome.desired = answer.targets(policy.port);
        }
        let Err(due) = self.remembered.foresee(&answer, policy) else {
            return Ok(());
        };
        let described = self.describe(due, act_by).await?;
        self.outcome.is_served = (!answer.is_partial).then(|| self.is_served(&described));
        self.remembered.see(self.outcome.is_served);
        let now = self
            .remembered
            .decide(&answer, &described, &self.done, policy);
        match self.context.is_dry_run {
            true => {
                self.planned = Some(now);
                Ok(())
            }
            false => self.apply(now, &described, act_by).await,
        }
    }

    async fn properties(&mut self) -> Result<Properties, Stop<Errors>> {
        self.outcome.step = Step::DescribeGroup;
        let Context {
            load_balancing,
            pace,
            deadline,
            ..
        } = *self.context;
        let arn = &self.group.arn;
        let properties = match self.remembered.properties.take() {
            Some(described) => described,
            None => describe_target_groups(load_balancing, pace, deadline, &[arn])
                .await
                .remove(arn)
                .ok_or(Stop::Unsent)?,
        };
        let properties = properties.map_err(|error| Stop::Failed(error.into()))?;
        self.remembered.properties = Some(Ok(properties));
        Ok(properties)
    }

    fn policy(&self, properties: Properties) -> Policy<'a> {
        let settings = self.group.settings;
        Policy {
            port: settings.port.unwrap_or(properties.port),
            keep_cidrs: &self.context.config.keep_cidrs,
            misses_before_deregistration: settings.misses,
        }
    }

    /// Returns the answer if there is one, and until when it can be acted on.
    async fn resolve(&mut self, properties: Properties) -> (Option<Answer>, Instant) {
        self.outcome.step = Step::Resolve;
        let group = self.group;
        let lookups = group.endpoints.len() * group.settings.lookups as usize;
        self.context.pace.lookups.turns(lookups).await;
        let act_by = Instant::now() + ACT;
        let resolved = resolve(self.context, group, properties.record_type).await;
        self.unresolved = resolved.failures;
        (resolved.answer, act_by)
    }

    async fn describe(
        &mut self,
        due: Due,
        act_by: Instant,
    ) -> Result<Vec<DescribedTarget>, Stop<Errors>> {
        self.outcome.step = Step::DescribeTargets;
        let described = self.target_group.describe_targets(due.is_urgent, act_by);
        described.await.map_err(|stop| stop.map(Errors::from))
    }

    fn is_served(&self, described: &[DescribedTarget]) -> bool {
        let desired = &self.outcome.desired;
        let is_serving = |one: &DescribedTarget| {
            matches!(one.state, State::Healthy | State::Initial) && desired.contains(&one.target)
        };
        described.iter().any(is_serving)
    }

    /// A call that had no turn before the deadline is no failure, unless it was refused before.
    fn end(self, stopped: Result<(), Stop<Errors>>) -> Outcome {
        let (mut outcome, mut failures): (_, Vec<Error>) = (self.outcome, self.unresolved);
        match (stopped, self.target_group.refused) {
            (Ok(()), _) => (),
            (Err(Stop::Failed(errors)), _) => failures.extend(errors),
            (Err(_), Some(refused)) => failures.push(refused),
            (Err(_), None) => outcome.is_unsent = true,
        }
        if self.group.is_listed && failures.iter().any(Error::is_missing) {
            failures.clear();
            outcome.is_gone = true;
        }
        self.remembered.is_unsent = outcome.is_unsent;
        if !outcome.is_gone {
            outcome.held_back = self.remembered.held_back(self.context.clock.now());
        }
        outcome.registered = self.done.registered;
        if let Some(planned) = self.planned {
            outcome.add_dry_run(planned);
        }
        outcome.errors = Errors::check(failures).err();
        outcome
    }
}
