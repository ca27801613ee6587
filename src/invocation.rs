//! One invocation: a loop of reconciles for every target group, concurrently and isolated from each
//! other, and what came of it reported. The answer to Lambda always comes before its timeout,
//! whatever hangs.

use std::time::SystemTime;

use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::join;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::TargetGroupConfig;
use crate::error::{Error, Errors};
use crate::metrics::{Destination, Metrics, Sample};
use crate::pace::Pace;
use crate::reconcile::{self, Context, Progress, reconcile};
use crate::report::{self, Report, TargetGroupReport};
use crate::window::{Deadline, Turn, Window};

/// One owned value for each target group, lent to its loop, and the metrics that are not published
/// yet.
#[derive(Debug, Default)]
pub struct Memory {
    pub target_groups: Vec<reconcile::Memory>,
    pub metrics: Metrics,
}

/// What one invocation works with.
pub struct Invocation<'a, P: RuntimeProvider> {
    pub context: Context<'a, P>,
    pub destination: Destination<'a>,
    pub deadline: Deadline,
    pub window: Window,
    pub pace: &'a Pace,
}

impl<P: RuntimeProvider> Invocation<'_, P> {
    /// The result, and what failed: of the groups in configuration order, then of publishing.
    pub async fn run(&self, memory: &mut Memory) -> (Report, Result<(), Errors>) {
        let Memory {
            target_groups,
            metrics,
        } = memory;
        let (sender, receiver) = mpsc::unbounded_channel();
        let loops = self.context.config.target_groups.iter().zip(target_groups);
        let loops =
            join_all(loops.map(|(group, memory)| self.follow(group, memory, sender.clone())));
        drop(sender);
        let (followed, unpublished) = join!(loops, self.publish(metrics, receiver));

        let (target_groups, outcomes): (Vec<_>, Vec<_>) = followed.into_iter().unzip();
        let group_errors = outcomes.into_iter().filter_map(Result::err).flatten();
        let report = Report {
            dry_run: self.context.is_dry_run,
            target_groups,
        };
        (report, Errors::check(group_errors.chain(unpublished)))
    }

    /// One target group's part of the invocation: reconciles for as long as the window says, and how
    /// the last of them ended.
    async fn follow(
        &self,
        group: &TargetGroupConfig,
        memory: &mut reconcile::Memory,
        outcomes: UnboundedSender<Sample>,
    ) -> (TargetGroupReport, Result<(), Errors>) {
        let mut report = TargetGroupReport::new(group);
        let (mut last, mut doubt, mut has_hurried) = (Ok(()), None, false);
        let mut next = Some(self.window.first_turn());
        while let Some(turn) = next {
            let is_in_time = self.wait_for(turn, memory).await;
            if !is_in_time && report.reconciles > 0 {
                // Too many groups look at once; what is doubted is still worth the wait.
                let look = doubt.and_then(|at| self.window.look_again(at));
                next = look.filter(|look| look.latest > turn.latest);
                continue;
            }
            let mut progress = Progress::default();
            last = match is_in_time {
                true => self.reconcile(group, memory, &mut progress).await,
                false => Err(deadline_exceeded(group, &progress)),
            };
            doubt = match last {
                Ok(()) => progress.look_again_at,
                // It knows no better than the one before, or wants another answer at once; once.
                Err(_) => {
                    let at_once = progress.look_again_at.filter(|_| !has_hurried);
                    has_hurried |= at_once.is_some();
                    at_once.or(doubt.filter(|at| *at > Instant::now()))
                }
            };
            self.record(group, &progress, &last, &outcomes);
            next = self.window.next_turn(turn, doubt);
            report.add(progress, &last);
        }
        (report, last)
    }

    /// Whether the turn could begin before it was too late.
    async fn wait_for(&self, turn: Turn, memory: &reconcile::Memory) -> bool {
        let describe_calls = if memory.properties.is_some() { 1 } else { 2 };
        let wait = async {
            sleep_until(turn.start).await;
            self.pace.wait_for(describe_calls).await;
        };
        timeout_at(turn.latest, wait).await.is_ok()
    }

    /// One reconcile, as far as the deadline lets it come.
    async fn reconcile(
        &self,
        group: &TargetGroupConfig,
        memory: &mut reconcile::Memory,
        progress: &mut Progress,
    ) -> Result<(), Errors> {
        let reconcile = async {
            let _permit = self.pace.permit().await;
            reconcile(&self.context, group, memory, progress).await
        };
        match timeout_at(self.deadline.work, reconcile).await {
            Ok(outcome) => outcome,
            Err(_) => Err(deadline_exceeded(group, progress)),
        }
    }

    fn record(
        &self,
        group: &TargetGroupConfig,
        progress: &Progress,
        outcome: &Result<(), Errors>,
        outcomes: &UnboundedSender<Sample>,
    ) {
        report::log_reconcile(group, progress, outcome);
        if !self.context.is_dry_run {
            // The receiver outlives the loops, unless the deadline ended both.
            let _ = outcomes.send(Sample {
                at: SystemTime::now(),
                target_group: group.arn.dimension().to_owned(),
                is_failover: progress.is_failover,
                is_failure: outcome.is_err(),
                has_healthy_target: None,
            });
        }
    }

    /// Publishes at once what a failover left, and the rest when all loops have ended; what the
    /// deadline cuts off is kept.
    async fn publish(
        &self,
        metrics: &mut Metrics,
        mut receiver: UnboundedReceiver<Sample>,
    ) -> Vec<Error> {
        if self.context.is_dry_run {
            return Vec::new();
        }
        let mut failures = Vec::new();
        let publishing =
            publish_as_it_comes(&self.destination, metrics, &mut receiver, &mut failures);
        if timeout_at(self.deadline.answer, publishing).await.is_err() {
            while let Ok(outcome) = receiver.try_recv() {
                metrics.record(outcome);
            }
            failures.push(metrics.deadline_exceeded(&self.destination, SystemTime::now()));
        }
        failures
    }
}

fn deadline_exceeded(group: &TargetGroupConfig, progress: &Progress) -> Errors {
    Errors::from(Error::DeadlineExceeded {
        step: progress.step.unwrap_or("waiting to reconcile"),
        target_group_arn: group.arn.to_string(),
    })
}

/// Hands over what could not be published in the end. Outcomes that are there already go out
/// together, and once CloudWatch is out of reach nothing is tried before the end: a hanging one would
/// cost its time for every failover.
async fn publish_as_it_comes(
    destination: &Destination<'_>,
    metrics: &mut Metrics,
    receiver: &mut UnboundedReceiver<Sample>,
    failures: &mut Vec<Error>,
) {
    let mut is_reachable = true;
    while let Some(outcome) = receiver.recv().await {
        let mut is_failover = outcome.is_failover;
        metrics.record(outcome);
        while let Ok(outcome) = receiver.try_recv() {
            is_failover |= outcome.is_failover;
            metrics.record(outcome);
        }
        if is_failover && is_reachable {
            let unpublished = metrics.publish(destination, SystemTime::now()).await;
            failures.extend(unpublished.dropped);
            is_reachable = unpublished.kept.is_none();
        }
    }
    let unpublished = metrics.publish(destination, SystemTime::now()).await;
    failures.extend(unpublished.dropped);
    failures.extend(unpublished.kept);
}
