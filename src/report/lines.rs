//! The lines of the log about the reconciles of a target group.

use std::slice;

use aws_sdk_cloudwatch::primitives::DateTime;
use tracing::{debug, error, info, warn};

use crate::config::TargetGroupConfig;
use crate::error::enumerate;
use crate::log::json;
use crate::plan::{Change, HeldBack, Target};
use crate::reconcile::Outcome;
use crate::target_group::TargetGroupArn;

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
        None if outcome.is_gone => warn!(
            "targetGroupArn" = %arn,
            "{arn} does not exist, although the fleet's list names it. No client is affected; the list may name a \
             deleted group for some minutes"
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

/// Logs that a group is not followed until the next list.
pub fn log_changed(arn: &TargetGroupArn) {
    warn!(
        "targetGroupArn" = %arn,
        "the tags of {arn} have other names than in the list before. Its clients keep the targets that they have; the names \
         hold when the next list of this sandbox says the same"
    );
}

/// Logs that a group is followed no longer.
pub fn log_left(arn: &TargetGroupArn) {
    warn!(
        "targetGroupArn" = %arn,
        "{arn} is not in the fleet's list any more, and is not followed. Its clients keep the targets that they have"
    );
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
        None if outcome.is_gone => warn!(
            "targetGroupArn" = %arn,
            "dry run: {arn} does not exist, although the fleet's list names it"
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
