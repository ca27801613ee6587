//! The result of an invocation, as it is returned and logged.

use std::collections::BTreeSet;

use serde::Serialize;
use tracing::{error, info};

use crate::config::TargetGroupConfig;
use crate::endpoint::Endpoint;
use crate::error::Errors;
use crate::log::json;
use crate::plan::Target;
use crate::reconcile::Progress;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub dry_run: bool,
    /// In configuration order.
    pub target_groups: Vec<TargetGroupReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupReport {
    pub target_group_arn: String,
    /// In configuration order.
    pub endpoints: Vec<String>,
    /// The last good answer, at the port that is registered; empty without one.
    pub desired: BTreeSet<Target>,
    /// What ELB acknowledged in any reconcile; in a dry run what would change.
    pub registered: BTreeSet<Target>,
    /// What ELB acknowledged in any reconcile; in a dry run what would change.
    pub deregistered: BTreeSet<Target>,
    /// The endpoint moved away from a target that was deregistered.
    pub failover: bool,
    pub reconciles: u32,
    /// Of the last reconcile.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub error_type: &'static str,
    pub error_message: String,
}

impl From<&Errors> for Failure {
    fn from(errors: &Errors) -> Self {
        Failure {
            error_type: errors.error_type(),
            error_message: errors.to_string(),
        }
    }
}

impl Report {
    /// The one line of the invocation.
    pub fn log(&self) {
        info!(
            "dryRun" = self.dry_run,
            "json.targetGroups" = json(&self.target_groups),
            "result"
        );
    }
}

impl TargetGroupReport {
    /// Before the first reconcile.
    pub fn new(group: &TargetGroupConfig) -> Self {
        TargetGroupReport {
            target_group_arn: group.arn.to_string(),
            endpoints: group.endpoints.iter().map(Endpoint::to_string).collect(),
            desired: BTreeSet::new(),
            registered: BTreeSet::new(),
            deregistered: BTreeSet::new(),
            failover: false,
            reconciles: 0,
            failure: None,
        }
    }

    /// One more reconcile, and how it ended.
    pub fn add(&mut self, progress: Progress, outcome: &Result<(), Errors>) {
        self.reconciles += u32::from(progress.step.is_some());
        if !progress.desired.is_empty() {
            self.desired = progress.desired;
        }
        self.registered.extend(progress.registered);
        self.deregistered.extend(progress.deregistered);
        self.failover |= progress.is_failover;
        self.failure = outcome.as_ref().err().map(Failure::from);
    }
}

/// The one line of a reconcile.
pub fn log_reconcile(group: &TargetGroupConfig, progress: &Progress, outcome: &Result<(), Errors>) {
    let arn = group.arn.to_string();
    let changed = (
        json(&progress.desired),
        json(&progress.registered),
        json(&progress.deregistered),
    );
    let (desired, registered, deregistered) = changed;
    match outcome {
        Ok(()) => info!(
            "targetGroupArn" = arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "failover" = progress.is_failover,
            "doubtful" = progress.look_again_at.is_some(),
            "reconciled"
        ),
        Err(errors) => error!(
            "targetGroupArn" = arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "errorType" = errors.error_type(),
            "errorMessage" = %errors,
            "reconcile failed"
        ),
    }
}
