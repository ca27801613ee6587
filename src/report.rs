//! The result of an invocation, as it is returned and logged.

mod lines;

use std::collections::BTreeSet;

use serde::Serialize;
use tracing::info;

use crate::config::TargetGroupConfig;
use crate::diagnose::Findings;
use crate::endpoint::Endpoint;
use crate::error::{Errors, MOST_IN_A_LINE};
use crate::log::json;
use crate::plan::Target;
use crate::reconcile::Outcome;
pub use lines::{log_changed, log_dry_run, log_held_back, log_left, log_reconcile};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub dry_run: bool,
    /// The groups are in configuration order.
    pub target_groups: Vec<TargetGroupReport>,
    /// What failed, if the queue caused the invocation. It is reported here, because an error would only slow
    /// the queue down.
    #[serde(flatten)]
    pub queue_result: Option<QueueResult>,
}

/// What an invocation that the queue caused returns in addition. Nothing is delivered again: the next
/// scheduled invocation does what this one could not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueResult {
    /// The list names none of the messages.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
    batch_item_failures: [String; 0],
    #[serde(flatten)]
    errors: Option<Errors>,
}

impl QueueResult {
    pub fn new(errors: Option<Errors>) -> Self {
        QueueResult {
            batch_item_failures: [],
            errors,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupReport {
    pub target_group_arn: String,
    /// The endpoints are in configuration order.
    pub endpoints: Vec<String>,
    /// The last good answer, at the port that is registered. It is empty if there was no good answer.
    pub desired: BTreeSet<Target>,
    /// What ELB acknowledged in any reconcile. In a dry run it is what would change.
    pub registered: BTreeSet<Target>,
    /// What ELB acknowledged in any reconcile. In a dry run it is what would change.
    pub deregistered: BTreeSet<Target>,
    /// The endpoint moved away from a target that was deregistered.
    pub failover: bool,
    pub reconciles: u32,
    /// A plan was held back.
    #[serde(skip)]
    pub is_held_back: bool,
    /// The deadline came before a call of the last reconcile had its turn.
    #[serde(skip)]
    pub is_unsent: bool,
    /// The failures of the last reconcile.
    #[serde(flatten)]
    pub errors: Option<Errors>,
}

/// What the function returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Output {
    Report(Report),
    Findings(Findings),
}

impl Report {
    /// Logs the one line of the invocation. It lists the groups that changed, failed or were left undone, and
    /// counts the others.
    pub fn log(&self) {
        let told = self
            .target_groups
            .iter()
            .filter(|group| group.is_eventful());
        let told: Vec<_> = told.take(MOST_IN_A_LINE).collect();
        info!(
            "dryRun" = self.dry_run,
            "json.targetGroups" = json(&told),
            "otherTargetGroups" = self.target_groups.len() - told.len(),
            "result"
        );
    }
}

impl TargetGroupReport {
    /// Makes the report before the first reconcile.
    pub fn new(group: &TargetGroupConfig) -> Self {
        TargetGroupReport {
            target_group_arn: group.arn.to_string(),
            endpoints: group.endpoints.iter().map(Endpoint::to_string).collect(),
            ..TargetGroupReport::default()
        }
    }

    /// Adds one more reconcile.
    pub fn add(&mut self, outcome: Outcome) {
        self.reconciles += 1;
        if !outcome.desired.is_empty() {
            self.desired = outcome.desired;
        }
        self.registered.extend(outcome.registered);
        self.deregistered.extend(outcome.deregistered);
        self.failover |= outcome.is_failover;
        self.is_held_back |= !outcome.held_back.is_empty();
        self.is_unsent = outcome.is_unsent;
        self.errors = outcome.errors;
    }

    fn is_eventful(&self) -> bool {
        let is_changed = !self.registered.is_empty() || !self.deregistered.is_empty();
        is_changed || self.is_held_back || self.is_unsent || self.errors.is_some()
    }
}
