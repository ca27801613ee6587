//! An invocation runs one loop of reconciles for every target group. The loops are concurrent and isolated from
//! each other, and their outcome is reported. The answer to Lambda always comes before its timeout, whatever hangs.

mod fleet;
mod publish;
mod sweep;

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use crate::config::TargetGroupConfig;
use crate::error::{Error, Errors};
use crate::fleet::Fleet;
use crate::metrics::{Destination, Metrics, Sample};
use crate::plan::{Moment, Target};
use crate::reconcile::{Context, Outcome, Remembered, Step, reconcile};
use crate::report::{self, Report, TargetGroupReport};
use crate::target_group::{Described, GROUPS_PER_CALL, TargetGroupArn, describe_target_groups};
use crate::window::Window;

/// What one sandbox keeps between invocations: one value for each target group, which is lent to its loop,
/// and the metrics that are not published yet.
#[derive(Debug, Default)]
pub struct Sandbox {
    pub target_groups: HashMap<TargetGroupArn, Remembered>,
    pub fleet: Fleet,
    pub metrics: Metrics,
}

/// A target group, and what is remembered about it. Its loop has it for the time of an invocation.
struct Lent<'a> {
    group: &'a TargetGroupConfig,
    remembered: Remembered,
    /// The first reconcile describes the targets, whatever is remembered.
    is_described: bool,
}

/// What one invocation works with.
pub struct Invocation<'a, P: RuntimeProvider> {
    pub context: Context<'a, P>,
    pub tagging: &'a aws_sdk_resourcegroupstagging::Client,
    pub destination: Destination<'a>,
    pub window: Window,
    /// CloudFormation waits for the outcome.
    pub is_deployment: bool,
}

impl<P: RuntimeProvider> Invocation<'_, P> {
    /// Runs the invocation. Returns the report and what failed: the groups' errors come first, in
    /// configuration order, and then those of publishing.
    pub async fn run(&self, sandbox: &mut Sandbox) -> (Report, Result<(), Errors>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut remembered = mem::take(&mut sandbox.target_groups);
        let groups = self.context.config.target_groups.iter();
        let lent = groups.map(|group| Lent {
            remembered: remembered.remove(&group.arn).unwrap_or_default(),
            group,
            is_described: true,
        });
        let configured = self.reconcile_all(lent.collect(), sender.clone());
        let fleet = self.reconcile_fleet(&mut sandbox.fleet, remembered, sender);
        let publishing = self.publish(&mut sandbox.metrics, receiver);
        let (configured, mut fleet, unpublished) = join!(configured, fleet, publishing);
        sandbox.target_groups = fleet.remembered;
        let mut target_groups = Vec::new();
        for (lent, report) in configured {
            let arn = lent.group.arn.clone();
            sandbox.target_groups.insert(arn, lent.remembered);
            target_groups.push(report);
        }
        let count = target_groups.len();
        target_groups.extend(fleet.reports);
        self.fail_unsent(&mut target_groups, count);
        self.check_looked(&target_groups, &mut fleet.failures);
        let failures = target_groups
            .iter()
            .filter_map(|group| group.errors.clone());
        let failures = failures.flatten().chain(fleet.failures);
        let outcome = Errors::check(failures.chain(unpublished));
        let report = Report {
            dry_run: self.context.is_dry_run,
            target_groups,
            queue_result: None,
        };
        (report, outcome)
    }

    /// Runs the loops of all target groups, in an order that is drawn for this invocation. Several sandboxes whose
    /// calls are refused would otherwise all leave the same groups to the end. Returns them with their reports, in the
    /// order in which they were given.
    async fn reconcile_all<'g>(
        &self,
        lent: Vec<Lent<'g>>,
        samples: UnboundedSender<Sample>,
    ) -> Vec<(Lent<'g>, TargetGroupReport)> {
        let mut lent: Vec<_> = lent.into_iter().enumerate().collect();
        fastrand::shuffle(&mut lent);
        let cold = lent
            .iter()
            .filter(|(_, one)| one.remembered.properties.is_none());
        let cold: Vec<_> = cold.map(|(_, one)| &one.group.arn).collect();
        let batches = cold.chunks(GROUPS_PER_CALL);
        let batches: Vec<_> = batches
            .map(|arns| (arns, self.describe(arns).shared()))
            .collect();
        let loops = lent.into_iter().map(async |(index, mut lent)| {
            let arn = &lent.group.arn;
            let mut batches = batches.iter();
            if let Some((_, batch)) = batches.find(|(arns, _)| arns.contains(&arn)) {
                lent.remembered.properties = batch.clone().await.get(arn).cloned();
            }
            let report = self.reconcile_in_window(&mut lent, &samples).await;
            (index, (lent, report))
        });
        let mut ended = join_all(loops).await;
        ended.sort_unstable_by_key(|(index, _)| *index);
        ended.into_iter().map(|(_, ended)| ended).collect()
    }

    async fn describe(&self, arns: &[&TargetGroupArn]) -> Rc<Described> {
        let Context {
            load_balancing,
            pace,
            deadline,
            ..
        } = self.context;
        let described = describe_target_groups(load_balancing, pace, deadline, arns);
        Rc::new(described.await)
    }

    /// A group that was not reached is left to the next invocation. It is a failure only where that would be taken
    /// for a success: in a deployment of groups that are configured, which come first, and in a dry run that looked at
    /// nothing.
    fn fail_unsent(&self, reports: &mut [TargetGroupReport], configured: usize) {
        let is_blind = self.context.is_dry_run && reports.iter().all(|report| report.is_unsent);
        let failed = match (is_blind, self.is_deployment) {
            (true, _) => reports,
            (false, true) => &mut reports[..configured],
            (false, false) => return,
        };
        for report in failed {
            if report.is_unsent && report.errors.is_none() {
                let error = Error::DeadlineExceeded {
                    step: Step::Wait,
                    target_group_arn: report.target_group_arn.clone(),
                };
                error.log();
                report.errors = Some(Errors::from(error));
            }
        }
    }

    /// Reconciles one target group for as long as the window says. Returns its report.
    async fn reconcile_in_window(
        &self,
        lent: &mut Lent<'_>,
        samples: &UnboundedSender<Sample>,
    ) -> TargetGroupReport {
        let (group, remembered) = (lent.group, &mut lent.remembered);
        if self.context.is_dry_run {
            return self.dry_run(group, remembered).await;
        }
        let mut report = TargetGroupReport::new(group);
        let (mut told, mut next) = (Vec::new(), Some(self.window.begin()));
        remembered.begin(lent.is_described);
        while let Some(start) = next {
            // A timer takes a millisecond even if its time is over already.
            if start > Instant::now() {
                sleep_until(start).await;
            }
            let outcome = reconcile(&self.context, group, remembered).await;
            let held_back = outcome.held_back.iter();
            let held_until = held_back.map(|held| self.instant(held.until)).min();
            next = self.window.next(start, held_until, Instant::now());
            next = next.filter(|_| !outcome.is_gone);
            self.log(group, &outcome, &mut told);
            // The receiver is gone only when the deadline has cut publishing off.
            let _ = samples.send(self.sample(group, &outcome, next.is_none()));
            report.add(outcome);
        }
        report
    }

    /// Reconciles one target group once, and remembers only what the group is.
    async fn dry_run(
        &self,
        group: &TargetGroupConfig,
        remembered: &mut Remembered,
    ) -> TargetGroupReport {
        let mut forgotten = remembered.clone();
        forgotten.begin(true);
        let outcome = reconcile(&self.context, group, &mut forgotten).await;
        remembered.properties = forgotten.properties;
        report::log_dry_run(group, &outcome);
        let mut report = TargetGroupReport::new(group);
        let is_gone = outcome.is_gone;
        report.add(outcome);
        report.reconciles = u32::from(!report.is_unsent && !is_gone);
        report
    }

    /// Logs the reconcile, and each doubt once in an invocation.
    fn log(&self, group: &TargetGroupConfig, outcome: &Outcome, told: &mut Vec<(Target, Moment)>) {
        for held_back in &outcome.held_back {
            let doubt = (held_back.target, held_back.until);
            if !told.contains(&doubt) {
                let is_reached = self.window.reaches(self.instant(held_back.until));
                report::log_held_back(group, held_back, is_reached);
                told.push(doubt);
            }
        }
        report::log_reconcile(group, outcome);
    }

    /// When both clocks will have come to this moment, by tokio's.
    fn instant(&self, at: Moment) -> Instant {
        let left = at.wall.duration_since(self.context.clock.now());
        left.map_or(at.monotonic, |left| at.monotonic.max(Instant::now() + left))
    }

    fn sample(&self, group: &TargetGroupConfig, outcome: &Outcome, is_last: bool) -> Sample {
        let is_left_undone = is_last && !outcome.held_back.is_empty();
        let is_failure = outcome.errors.is_some() || outcome.is_unsent || is_left_undone;
        let of_group = Some(group.arn.dimension().to_owned());
        Sample {
            is_failover: Some(outcome.is_failover),
            is_failure: Some(is_failure),
            // The description is older than what was registered by it.
            is_served: outcome
                .is_served
                .map(|is_served| is_served || !outcome.registered.is_empty()),
            ..Sample::new(self.context.clock.now(), of_group)
        }
    }
}
