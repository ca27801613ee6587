//! One invocation: a reconcile of every target group, concurrently and isolated from each other,
//! and what came of it reported. The answer to Lambda always comes before its timeout, whatever
//! hangs.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::join;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

use crate::config::TargetGroupConfig;
use crate::error::{Error, Errors};
use crate::metrics::{Destination, Metrics, Outcome};
use crate::pace::Pace;
use crate::reconcile::{self, Context, Progress, reconcile};
use crate::report::{Report, TargetGroupReport};

/// One owned value for each target group, lent to its loop, and the metrics that are not published
/// yet.
#[derive(Debug, Default)]
pub struct Memory {
    pub target_groups: Vec<reconcile::Memory>,
    pub metrics: Metrics,
}

/// When an invocation stops working on target groups, and when it answers.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    work: Instant,
    answer: Instant,
}

impl Deadline {
    /// Kept for publishing and the answer, or half the time where a function is given less.
    const RESERVE: Duration = Duration::from_secs(8);

    /// From the moment at which Lambda ends the invocation.
    pub fn before(timeout: Instant) -> Self {
        let left = timeout.saturating_duration_since(Instant::now());
        let reserve = Self::RESERVE.min(left / 2);
        Deadline {
            work: timeout - reserve,
            answer: timeout - reserve / 8,
        }
    }
}

/// What one invocation works with.
pub struct Invocation<'a> {
    pub context: Context<'a>,
    pub destination: Destination<'a>,
    pub deadline: Deadline,
    pub pace: Pace,
}

impl Invocation<'_> {
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

    /// One target group's part of the invocation.
    async fn follow(
        &self,
        group: &TargetGroupConfig,
        memory: &mut reconcile::Memory,
        outcomes: UnboundedSender<Outcome>,
    ) -> (TargetGroupReport, Result<(), Errors>) {
        let mut progress = Progress::default();
        let turn = async {
            let calls = if memory.properties.is_some() { 1 } else { 2 };
            let _turn = self.pace.turn(calls).await;
            reconcile(self.context, group, memory, &mut progress).await
        };
        let outcome = timeout_at(self.deadline.work, turn)
            .await
            .unwrap_or_else(|_| {
                Err(Errors::from(Error::DeadlineExceeded {
                    step: progress.step.unwrap_or("waiting to reconcile"),
                    target_group_arn: group.arn.to_string(),
                }))
            });
        if !self.context.is_dry_run {
            // The receiver outlives the loops, unless the deadline ended both.
            let _ = outcomes.send(Outcome {
                at: SystemTime::now(),
                target_group: group.arn.dimension().to_owned(),
                is_failover: progress.is_failover,
                is_failure: outcome.is_err(),
            });
        }
        let report = TargetGroupReport::new(group, progress, &outcome);
        report.log();
        (report, outcome)
    }

    /// Publishes at once what a failover left, and the rest when all loops have ended; what the
    /// deadline cuts off is kept.
    async fn publish(
        &self,
        metrics: &mut Metrics,
        mut receiver: UnboundedReceiver<Outcome>,
    ) -> Vec<Error> {
        if self.context.is_dry_run {
            return Vec::new();
        }
        let publishing = publish_as_it_comes(&self.destination, metrics, &mut receiver);
        let published = timeout_at(self.deadline.answer, publishing).await;
        published.unwrap_or_else(|_| {
            while let Ok(outcome) = receiver.try_recv() {
                metrics.record(outcome);
            }
            vec![metrics.deadline_exceeded(&self.destination)]
        })
    }
}

/// What could not be published in the end. Outcomes that are there already go out together, and once
/// CloudWatch is out of reach nothing is tried before the end: a hanging one would cost its time for
/// every failover.
async fn publish_as_it_comes(
    destination: &Destination<'_>,
    metrics: &mut Metrics,
    receiver: &mut UnboundedReceiver<Outcome>,
) -> Vec<Error> {
    let (mut dropped, mut is_reachable) = (Vec::new(), true);
    while let Some(outcome) = receiver.recv().await {
        let mut is_failover = outcome.is_failover;
        metrics.record(outcome);
        while let Ok(outcome) = receiver.try_recv() {
            is_failover |= outcome.is_failover;
            metrics.record(outcome);
        }
        if is_failover && is_reachable {
            let unpublished = metrics.publish(destination).await;
            dropped.extend(unpublished.dropped);
            is_reachable = unpublished.kept.is_none();
        }
    }
    let unpublished = metrics.publish(destination).await;
    dropped.extend(unpublished.dropped);
    dropped.extend(unpublished.kept);
    dropped
}
