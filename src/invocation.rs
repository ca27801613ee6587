//! An invocation runs one loop of reconciles for every target group. The loops are concurrent and isolated from
//! each other, and their outcome is reported. The answer to Lambda always comes before its timeout, whatever hangs.

use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio::{join, select};

use crate::config::TargetGroupConfig;
use crate::error::{Error, Errors};
use crate::metrics::{Destination, Metrics, Sample};
use crate::plan::{HeldBack, Moment};
use crate::reconcile::{Context, Known, Progress, reconcile};
use crate::report::{self, Doubt, Report, TargetGroupReport};
use crate::target_group::Stage;
use crate::window::{Deadline, Window};

/// What one sandbox keeps between invocations: one value for each target group, which is lent to its loop,
/// and the metrics that are not published yet.
#[derive(Debug, Default)]
pub struct Sandbox {
    pub target_groups: Vec<Known>,
    pub metrics: Metrics,
}

/// The report about one target group, and the outcome of its last reconcile.
type Ended = (TargetGroupReport, Result<(), Errors>);

/// What one invocation works with.
pub struct Invocation<'a, P: RuntimeProvider> {
    pub context: Context<'a, P>,
    pub destination: Destination<'a>,
    pub deadline: Deadline,
    pub window: Window,
    /// CloudFormation waits for the outcome.
    pub is_deployment: bool,
}

impl<P: RuntimeProvider> Invocation<'_, P> {
    /// Runs the invocation. Returns the report and what failed: the groups' errors come first, in
    /// configuration order, and then those of publishing.
    pub async fn run(&self, sandbox: &mut Sandbox) -> (Report, Result<(), Errors>) {
        let Sandbox {
            target_groups,
            metrics,
        } = sandbox;
        let (sender, receiver) = mpsc::unbounded_channel();
        let Context {
            config,
            load_balancing,
            pace,
            unknown,
            ..
        } = self.context;
        let loops = config.target_groups.iter().zip(target_groups);
        let loops = join_all(
            loops.map(|(group, known)| self.reconcile_in_window(group, known, sender.clone())),
        );
        drop(sender);
        let loops = async {
            select! {
                biased;
                ended = loops => ended,
                never = unknown.answer(load_balancing, pace, self.deadline.work) => match never {},
            }
        };
        let (mut ended, unpublished) = join!(loops, self.publish(metrics, receiver));
        self.fail_unsent(&mut ended);

        let (target_groups, outcomes): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        let group_errors = outcomes
            .into_iter()
            .filter_map(Result::err)
            .flat_map(|errors| errors.0);
        let report = Report {
            dry_run: self.context.is_dry_run,
            target_groups,
            of_queue: None,
        };
        (report, Errors::check(group_errors.chain(unpublished)))
    }

    /// A group that was not reached is left to the next invocation. It is a failure only where that would be taken
    /// for a success: in a deployment, and in a dry run that looked at nothing.
    fn fail_unsent(&self, ended: &mut [Ended]) {
        let is_blind = self.context.is_dry_run && ended.iter().all(|(report, _)| report.is_unsent);
        if !is_blind && !self.is_deployment {
            return;
        }
        for (report, outcome) in ended {
            if report.is_unsent && outcome.is_ok() {
                let error = Error::DeadlineExceeded {
                    step: "waiting to send a call about",
                    target_group_arn: report.target_group_arn.clone(),
                };
                error.log();
                *outcome = Err(Errors::from(error));
                report.end(outcome);
            }
        }
    }

    /// Reconciles one target group for as long as the window says. Returns its report and the outcome of the
    /// last reconcile.
    async fn reconcile_in_window(
        &self,
        group: &TargetGroupConfig,
        known: &mut Known,
        samples: UnboundedSender<Sample>,
    ) -> Ended {
        let window = self.window;
        let send = |sample: Option<Sample>| sample.map(|sample| samples.send(sample));
        let mut report = TargetGroupReport::new(group);
        let (mut outcome, mut held_until, mut held_sample) = (Ok(()), None, None);
        if self.context.is_dry_run {
            let mut progress = Progress::begin();
            outcome = self.reconcile(group, known, &mut progress).await;
            report::log_dry_run(group, &progress, &outcome);
            report.add(progress, &outcome);
            return (report, outcome);
        }
        let mut next = window.next(None, held_until, Instant::now());
        let mut told: Option<HeldBack> = None;
        known.begin();
        while let Some(start) = next {
            // A timer takes a millisecond even if its time is over already.
            if start.earliest > Instant::now() {
                sleep_until(start.earliest).await;
            }
            let mut progress = Progress::begin();
            outcome = self.reconcile(group, known, &mut progress).await;
            held_until = match &outcome {
                Ok(()) => progress
                    .held_back
                    .as_ref()
                    .map(|held| self.instant(held.until)),
                // A failed reconcile learns nothing, so the earlier doubt stands.
                Err(_) => held_until.filter(|until| *until > Instant::now()),
            };
            next = window.next(Some(start.earliest), held_until, Instant::now());
            let doubt = match &progress.held_back {
                Some(held_back) if told.as_ref().is_some_and(|told| told.is_same(held_back)) => {
                    Doubt::Told
                }
                _ if held_until.is_some_and(|until| window.reaches(until)) => Doubt::Reached,
                _ => Doubt::NotReached,
            };
            report::log_reconcile(group, &progress, &outcome, doubt);
            told = progress.held_back.clone().or(told);
            let sample = self.sample(group, &progress, outcome.is_err());
            send(held_sample.take());
            match progress.held_back {
                // Only the end of the invocation shows whether the plan is left undone.
                Some(_) => held_sample = Some(sample),
                None => _ = send(Some(sample)),
            }
            report.add(progress, &outcome);
        }
        send(held_sample.map(|sample| Sample {
            is_failure: true,
            ..sample
        }));
        (report, outcome)
    }

    /// Reconciles the group once, until the deadline at the latest.
    async fn reconcile(
        &self,
        group: &TargetGroupConfig,
        known: &mut Known,
        progress: &mut Progress,
    ) -> Result<(), Errors> {
        let reconcile = reconcile(&self.context, group, known, progress);
        let outcome = timeout_at(self.deadline.work, reconcile).await;
        let is_dry_run = self.context.is_dry_run;
        let was_left_over = !is_dry_run && std::mem::take(&mut known.is_left_over);
        match (outcome, progress.line.stage()) {
            (Ok(outcome), _) => outcome,
            (Err(_), Stage::Refused(error)) => Err(Errors::from(error)),
            // The group counts as not reached.
            (Err(_), Stage::Unsent) if is_dry_run => {
                (progress.step, progress.is_unsent) = (None, true);
                Ok(())
            }
            (Err(_), Stage::Unsent) => {
                (known.is_left_over, progress.is_unsent) = (true, true);
                match was_left_over {
                    true => Err(deadline_exceeded(group, progress)),
                    false => Ok(()),
                }
            }
            (Err(_), _) => Err(deadline_exceeded(group, progress)),
        }
    }

    /// When both clocks will have come to this moment, by tokio's.
    fn instant(&self, at: Moment) -> Instant {
        let left = at.wall.duration_since(self.context.clock.now());
        at.monotonic.max(Instant::now() + left.unwrap_or_default())
    }

    fn sample(&self, group: &TargetGroupConfig, progress: &Progress, is_failure: bool) -> Sample {
        Sample {
            at: self.context.clock.now(),
            target_group: group.arn.dimension().to_owned(),
            is_failover: progress.is_failover,
            is_failure: is_failure || progress.is_unsent,
            // The description is older than what was registered by it.
            is_served: progress
                .is_served
                .map(|is_served| is_served || !progress.registered.is_empty()),
        }
    }

    /// Publishes at once after a failover, and once more when all loops have ended. Data that the deadline
    /// cuts off are kept.
    async fn publish(
        &self,
        metrics: &mut Metrics,
        mut receiver: UnboundedReceiver<Sample>,
    ) -> Vec<Error> {
        if self.context.is_dry_run {
            return Vec::new();
        }
        let mut failures = Vec::new();
        let publishing = self.publish_as_it_comes(metrics, &mut receiver, &mut failures);
        if timeout_at(self.deadline.answer, publishing).await.is_err() {
            while let Ok(sample) = receiver.try_recv() {
                metrics.record(sample);
            }
            let error = metrics.deadline_exceeded(&self.destination, self.context.clock.now());
            error.log();
            failures.push(error);
        }
        failures
    }

    /// Adds to `failures` every error that no later publication makes up for. Samples that are there already
    /// are published together. Once CloudWatch is out of reach, nothing is tried before the end: a call that
    /// hangs would cost its time for every failover.
    async fn publish_as_it_comes(
        &self,
        metrics: &mut Metrics,
        receiver: &mut UnboundedReceiver<Sample>,
        failures: &mut Vec<Error>,
    ) {
        let (mut is_reachable, mut is_over) = (true, false);
        while !is_over {
            let mut is_failover = false;
            let mut next = receiver.recv().await;
            is_over = next.is_none();
            while let Some(sample) = next {
                is_failover |= sample.is_failover;
                metrics.record(sample);
                next = receiver.try_recv().ok();
            }
            if is_over || (is_failover && is_reachable) {
                let mut failed = metrics
                    .publish(&self.destination, self.context.clock.now())
                    .await;
                failed.iter().for_each(Error::log);
                is_reachable = failed.iter().all(Error::is_dropped);
                failed.retain(|error| is_over || error.is_dropped());
                failures.append(&mut failed);
            }
        }
    }
}

fn deadline_exceeded(group: &TargetGroupConfig, progress: &Progress) -> Errors {
    Errors::from(Error::DeadlineExceeded {
        step: progress.step.unwrap_or("waiting to reconcile"),
        target_group_arn: group.arn.to_string(),
    })
}
