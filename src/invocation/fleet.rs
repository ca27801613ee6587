//! Reconciles the target groups of the fleet.

use std::collections::HashMap;

use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::sync::mpsc::UnboundedSender;

use super::sweep::sweep;
use super::{Invocation, Lent};
use crate::config::TargetGroupConfig;
use crate::error::Error;
use crate::fleet::{Fleet, List, list};
use crate::metrics::Sample;
use crate::reconcile::Remembered;
use crate::report::{TargetGroupReport, log_changed, log_left};
use crate::target_group::TargetGroupArn;

/// What became of the fleet in an invocation.
#[derive(Default)]
pub(super) struct Discovered {
    pub reports: Vec<TargetGroupReport>,
    /// What is remembered about the groups that are followed. A group that left the list is forgotten.
    pub remembered: HashMap<TargetGroupArn, Remembered>,
    pub failures: Vec<Error>,
}

impl<P: RuntimeProvider> Invocation<'_, P> {
    /// Lists the fleet, and reconciles the groups that it has. A list that fails leaves the last one. A deployment and a
    /// dry run do what they can in their time.
    pub(super) async fn reconcile_fleet(
        &self,
        fleet: &mut Fleet,
        mut remembered: HashMap<TargetGroupArn, Remembered>,
        samples: UnboundedSender<Sample>,
    ) -> Discovered {
        let config = self.context.config;
        let Some(tag) = &config.fleet else {
            return Discovered::default();
        };
        let (groups, failures) = self.discover(tag, fleet, &samples).await;
        let mut discovered = Discovered {
            failures,
            ..Discovered::default()
        };
        let lent = groups.iter().map(|group| Lent {
            remembered: remembered.remove(&group.arn).unwrap_or_default(),
            group,
            is_described: true,
        });
        let mut lent: Vec<_> = lent.collect();
        sweep(&mut lent, config.target_groups.len());
        for (lent, report) in self.reconcile_all(lent, samples).await {
            let arn = lent.group.arn.clone();
            discovered.remembered.insert(arn, lent.remembered);
            discovered.reports.push(report);
        }
        if self.context.is_dry_run {
            discovered.remembered.extend(remembered);
        }
        discovered
    }

    /// Lists the fleet. Returns the groups to follow, and what failed.
    async fn discover(
        &self,
        tag: &str,
        fleet: &mut Fleet,
        samples: &UnboundedSender<Sample>,
    ) -> (Vec<TargetGroupConfig>, Vec<Error>) {
        let config = self.context.config;
        let (mut learned, mut failures) = (fleet.clone(), Vec::new());
        match list(self.tagging, tag, self.context.deadline.work).await {
            Ok(list) => self.learn(&mut learned, &list, samples),
            Err(error) => failures.push(error),
        }
        let (groups, too_many) = learned.groups(config);
        failures.extend(too_many);
        for failure in &failures {
            failure.log();
            self.fail(None, samples);
        }
        // A dry run remembers nothing.
        if !self.context.is_dry_run {
            *fleet = learned;
        }
        (groups, failures)
    }

    /// A dry run that found no group to look at is no success.
    pub(super) fn check_looked(&self, reports: &[TargetGroupReport], failures: &mut Vec<Error>) {
        let looked = |report: &TargetGroupReport| report.reconciles > 0 || report.is_unsent;
        let is_blind = self.context.is_dry_run && !reports.iter().any(looked);
        if let Some(fleet) = self.context.config.fleet.clone()
            && is_blind
            && failures.is_empty()
        {
            let cause = "it has no target group that can be followed"
                .to_owned()
                .into();
            let error = Error::DiscoverFailed { fleet, cause };
            error.log();
            failures.push(error);
        }
    }

    /// Counts a failure, of a group or of the whole fleet.
    fn fail(&self, group: Option<&TargetGroupArn>, samples: &UnboundedSender<Sample>) {
        let group = group.map(|arn| arn.dimension().to_owned());
        let _ = samples.send(Sample {
            is_failure: Some(true),
            ..Sample::new(self.context.clock.now(), group)
        });
    }

    fn learn(&self, fleet: &mut Fleet, list: &List, samples: &UnboundedSender<Sample>) {
        let config = self.context.config;
        let news = fleet.learn(list, config);
        news.left.iter().for_each(log_left);
        for arn in &news.changed {
            log_changed(arn);
            self.fail(Some(arn), samples);
        }
        for (arn, invalid) in &news.invalid {
            invalid.log();
            let _ = samples.send(Sample {
                is_tag_invalid: Some(true),
                ..Sample::new(self.context.clock.now(), Some(arn.dimension().to_owned()))
            });
        }
    }
}
