//! The result of an invocation, as it is returned and logged.

use std::collections::BTreeSet;
use std::slice;

use aws_sdk_cloudwatch::primitives::DateTime;
use serde::Serialize;
use tracing::{debug, error, info, warn};

use crate::config::TargetGroupConfig;
use crate::diagnose::Findings;
use crate::endpoint::Endpoint;
use crate::error::{Errors, MOST_IN_A_LINE, enumerate};
use crate::log::json;
use crate::plan::{Change, HeldBack, Target};
use crate::reconcile::Outcome;

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

/// Logs the one line of a doubt, when it begins.
pub fn log_held_back(group: &TargetGroupConfig, held_back: &HeldBack, is_reached: bool) {
    let HeldBack {
        target,
        change,
        reason,
        until,
    } = held_back;
    let none = <&[Target]>::default();
    let (register, deregister) = match change {
        Change::BringBack => (slice::from_ref(target), none),
        Change::Remove => (none, slice::from_ref(target)),
    };
    let next = match is_reached {
        true => {
            "unless DNS says otherwise before, this invocation decides at the time in \"until\""
        }
        false => {
            "this invocation ends before the time in \"until\". Only an invocation of this sandbox in the 90 s \
             after that time can decide; otherwise the doubt begins anew"
        }
    };
    warn!(
        "targetGroupArn" = %group.arn,
        "json.register" = json(&register),
        "json.deregister" = json(&deregister),
        "reason" = reason,
        "until" = %DateTime::from(until.wall),
        "held back: {reason}. Clients keep the targets that they have; {next}"
    );
}

/// Logs the one line of a reconcile. It is a DEBUG line unless the reconcile changed something, could not send a call,
/// or failed.
pub fn log_reconcile(group: &TargetGroupConfig, outcome: &Outcome) {
    let arn = &group.arn;
    let desired = json(&outcome.desired);
    let registered = json(&outcome.registered);
    let deregistered = json(&outcome.deregistered);
    match &outcome.errors {
        Some(errors) => error!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "errorType" = errors.error_type(),
            "errorMessage" = %errors,
            "reconcile failed"
        ),
        None if outcome.is_unsent => warn!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "unsent: the invocation ran out of time before it could send a call, while {} {arn}. \
             Clients keep the targets that they have; the group comes first in the next invocation of \
             this sandbox",
            outcome.step
        ),
        None if outcome.is_changed() => info!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.registered" = registered,
            "json.deregistered" = deregistered,
            "failover" = outcome.is_failover,
            "reconciled"
        ),
        None => debug!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "reconciled"
        ),
    }
}

/// Logs the lines of a reconcile that only says what would change. Nobody may take them for a change.
pub fn log_dry_run(group: &TargetGroupConfig, outcome: &Outcome) {
    let arn = &group.arn;
    let desired = json(&outcome.desired);
    let register = json(&outcome.registered);
    let deregister = json(&outcome.deregistered);
    let verbs = [
        ("register", &outcome.registered),
        ("deregister", &outcome.deregistered),
    ];
    let changes = verbs.into_iter().filter(|(_, targets)| !targets.is_empty());
    let changes: Vec<_> = changes
        .map(|(verb, targets)| format!("{verb} {}", enumerate(targets)))
        .collect();
    let reasons = outcome.held_back.iter().map(|held| &held.reason);
    let reasons: Vec<_> = reasons.map(String::as_str).collect();
    match &outcome.errors {
        Some(errors) => error!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "errorType" = errors.error_type(),
            "errorMessage" = %errors,
            "dry run: the reconcile would fail"
        ),
        None if outcome.is_unsent => warn!(
            "targetGroupArn" = %arn,
            "dry run: nobody knows what would change, because the invocation ran out of time before it could \
             describe {arn}"
        ),
        None if !reasons.is_empty() => warn!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.register" = register,
            "json.deregister" = deregister,
            "reason" = reasons.join("; "),
            "dry run: would {}, of which some would be held back: {}",
            changes.join(" and then "),
            reasons.join("; ")
        ),
        None if !changes.is_empty() => info!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "json.register" = register,
            "json.deregister" = deregister,
            "dry run: would {}",
            changes.join(" and then ")
        ),
        None => debug!(
            "targetGroupArn" = %arn,
            "json.desired" = desired,
            "dry run: nothing would change"
        ),
    }
}
