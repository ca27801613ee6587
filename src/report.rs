//! The result of an invocation, as it is returned and logged.

use std::collections::BTreeSet;

use aws_sdk_cloudwatch::primitives::DateTime;
use serde::Serialize;
use tracing::{debug, error, info, warn};

use crate::config::TargetGroupConfig;
use crate::diagnose::Findings;
use crate::endpoint::Endpoint;
use crate::error::{Errors, MOST_IN_A_LINE, enumerate};
use crate::log::json;
use crate::plan::Target;
use crate::reconcile::Progress;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub dry_run: bool,
    /// The groups are in configuration order.
    pub target_groups: Vec<TargetGroupReport>,
    /// What failed, if the queue caused the invocation. It is reported here, because an error would only slow
    /// the queue down.
    #[serde(flatten)]
    pub of_queue: Option<OfQueue>,
}

/// What an invocation that the queue caused returns in addition. Nothing is delivered again: the next
/// scheduled invocation does what this one could not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfQueue {
    /// The list names none of the messages.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
    batch_item_failures: [String; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

impl OfQueue {
    pub fn new(outcome: &Result<(), Errors>) -> Self {
        OfQueue {
            batch_item_failures: [],
            error_type: outcome.as_ref().err().map(Errors::error_type),
            error_message: outcome.as_ref().err().map(Errors::to_string),
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
    /// The failure of the last reconcile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
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

    /// Adds one more reconcile, and how it ended.
    pub fn add(&mut self, progress: Progress, outcome: &Result<(), Errors>) {
        self.reconciles += u32::from(progress.step.is_some());
        if !progress.desired.is_empty() {
            self.desired = progress.desired;
        }
        self.registered.extend(progress.registered);
        self.deregistered.extend(progress.deregistered);
        self.failover |= progress.is_failover;
        self.is_held_back |= progress.held_back.is_some();
        self.is_unsent = progress.is_unsent;
        self.end(outcome);
    }

    /// Reports how the last reconcile ended.
    pub fn end(&mut self, outcome: &Result<(), Errors>) {
        self.error_type = outcome.as_ref().err().map(Errors::error_type);
        self.error_message = outcome.as_ref().err().map(Errors::to_string);
    }

    fn is_eventful(&self) -> bool {
        let is_changed = !self.registered.is_empty() || !self.deregistered.is_empty();
        is_changed || self.is_held_back || self.is_unsent || self.error_type.is_some()
    }
}

/// Logs the one line of a reconcile. It is a DEBUG line unless the reconcile changed something, was held back
/// or left over, or failed. A doubt that was told already is a DEBUG line too.
pub fn log_reconcile(
    group: &TargetGroupConfig,
    progress: &Progress,
    outcome: &Result<(), Errors>,
    doubt: Doubt,
) {
    let arn = &group.arn;
    let desired = json(&progress.desired);
    let registered = json(&progress.registered);
    let deregistered = json(&progress.deregistered);
    let is_changed = !progress.registered.is_empty() || !progress.deregistered.is_empty();
    match (outcome, &progress.held_back) {
        (Err(errors), _) => error!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "errorType" = errors.error_type(),
            "errorMessage" = %errors,
            "reconcile failed"
        ),
        (Ok(()), Some(held_back)) if doubt != Doubt::Told => warn!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.register" = json(&held_back.plan.register),
            "json.deregister" = json(&held_back.plan.targets_to_deregister()),
            "reason" = held_back.reason,
            "until" = %DateTime::from(held_back.until.wall),
            "held back: {}. Clients keep the targets that they have; {}",
            held_back.reason,
            match doubt {
                Doubt::Reached => "unless DNS says otherwise before, this invocation decides at the time in \"until\"",
                _ => "this invocation ends before the time in \"until\". Only an invocation of this sandbox in the 90 s \
                      after that time can decide; otherwise the doubt begins anew",
            }
        ),
        (Ok(()), None) if progress.is_unsent => warn!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "left over: the invocation ran out of time before it could send a call, while {} {arn}. \
             Clients keep the targets that they have; the group comes first in the next invocation of \
             this sandbox",
            progress.step.unwrap_or_default()
        ),
        (Ok(()), None) if is_changed => info!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "failover" = progress.is_failover,
            "reconciled"
        ),
        (Ok(()), Some(held_back)) => debug!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "still held back: {}",
            held_back.reason
        ),
        (Ok(()), None) => debug!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "reconciled"
        ),
    }
}

/// Logs the one line of a reconcile that only plans. Nobody may take it for a change.
pub fn log_dry_run(group: &TargetGroupConfig, progress: &Progress, outcome: &Result<(), Errors>) {
    let arn = &group.arn;
    let desired = json(&progress.desired);
    let register = json(&progress.registered);
    let deregister = json(&progress.deregistered);
    let verbs = [
        ("register", &progress.registered),
        ("deregister", &progress.deregistered),
    ];
    let changes = verbs.into_iter().filter(|(_, targets)| !targets.is_empty());
    let changes: Vec<_> = changes
        .map(|(verb, targets)| format!("{verb} {}", enumerate(targets)))
        .collect();
    match (outcome, &progress.held_back) {
        (Err(errors), _) => error!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "errorType" = errors.error_type(),
            "errorMessage" = %errors,
            "dry run: the reconcile would fail"
        ),
        (Ok(()), Some(held_back)) => warn!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.register" = register,
            "json.deregister" = deregister,
            "reason" = held_back.reason,
            "dry run: would be held back: {}",
            held_back.reason
        ),
        (Ok(()), None) if progress.is_unsent => warn!(
            "targetGroupArn" = %arn,
            "dry run: nobody knows what would change, because the invocation ran out of time before it could \
             describe {arn}"
        ),
        (Ok(()), None) if !changes.is_empty() => info!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.register" = register,
            "json.deregister" = deregister,
            "dry run: would {}",
            changes.join(" and then ")
        ),
        (Ok(()), None) => debug!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "dry run: nothing would change"
        ),
    }
}

/// What to tell about a plan that is held back. Each doubt is told once in an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    Told,
    /// The invocation lasts until the plan can be believed.
    Reached,
    /// The invocation ends before.
    NotReached,
}
