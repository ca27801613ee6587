//! A pure function judges what was seen. Each rule is one function. A rule says nothing if its subject could
//! not be seen, or if another finding already explains it.

mod group;
mod name;
mod target;

use std::time::Duration;

use super::finding::Severity::{self, Warning};
use super::finding::{Finding, Findings};
use super::seen::{Group, Seen, Unseen};
use crate::config::{Alarms, Config};
use crate::error::Error;
use group::of_group;
use name::of_name;

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html>
const LONGEST_SPAN: Duration = Duration::from_secs(24 * 60 * 60);

/// Judges what was seen. The worst findings come first, and otherwise they are in configuration order.
pub fn judge(config: &Config, seen: &Seen<'_>, of_fleet: Vec<Finding>) -> Findings {
    let mut findings = permissions(seen);
    findings.extend(of_fleet);
    findings.extend(blind_alarms(config.alarms));
    findings.extend(seen.names.iter().flat_map(|name| of_name(config, name)));
    for group in &seen.groups {
        let of_group = of_group(config, group, seen).into_iter();
        findings.extend(of_group.map(|finding| Finding {
            target_group_arn: Some(group.config.arn.to_string()),
            ..finding
        }));
    }
    findings.sort_by_key(|finding| finding.severity);
    Findings { findings }
}

/// An invalid configuration is the only finding, because nothing else can be diagnosed with it.
pub fn config_invalid(invalid: &Error) -> Findings {
    let mend = "correct the parameter, and deploy the stack again".to_owned();
    Findings {
        findings: vec![Finding::new(
            "config-invalid",
            Severity::Error,
            invalid.to_string(),
            mend,
        )],
    }
}

fn error(id: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Error, seen.into(), mend.into())
}

fn warning(id: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding::new(id, Warning, seen.into(), mend.into())
}

fn modify(group: &Group<'_>, what: &str) -> String {
    let arn = &group.config.arn;
    format!("aws elbv2 {what} --target-group-arn {arn}")
}

fn set(group: &Group<'_>, key: &str, value: &str) -> String {
    let modify = modify(group, "modify-target-group-attributes");
    format!("{modify} --attributes Key={key},Value={value}")
}

/// The alarms do not know the schedule, so their span must be long enough for three invocations. One of them may be a
/// minute late, and so may a datum.
fn blind_alarms(alarms: Alarms) -> Option<Finding> {
    let (interval, span) = (alarms.interval?, alarms.span?);
    let needed = interval * 3 + Duration::from_secs(2 * 60);
    let minutes = |time: Duration| time.as_secs() / 60;
    let mend = match needed <= LONGEST_SPAN {
        true => format!("set AlarmMinutes to {}", minutes(needed)),
        false => "choose a ScheduleExpression of at most 479 minutes: an alarm looks back 24 hours at most".to_owned(),
    };
    (span < needed).then(|| {
        warning(
            "alarms-blind",
            format!(
                "AlarmMinutes is {}, and {} minutes pass between two scheduled invocations: three failures in a row may \
                 not fit, so no alarm fires",
                minutes(span),
                minutes(interval)
            ),
            mend,
        )
    })
}

/// Each denied action is one finding, because none of the actions takes a resource.
fn permissions(seen: &Seen<'_>) -> Vec<Finding> {
    let mut denied: Vec<&Unseen> = Vec::new();
    for unseen in seen.groups.iter().flat_map(unseen) {
        if is_denied(unseen) && denied.iter().all(|one| one.action != unseen.action) {
            denied.push(unseen);
        }
    }
    let finding = |unseen: &Unseen| {
        let action = format!("elasticloadbalancing:{}", unseen.action);
        error(
            "permission-missing",
            format!("{action}: {}", unseen.cause),
            format!("allow {action} on * in the function's role"),
        )
    };
    denied.into_iter().map(finding).collect()
}

/// The calls about the group that brought no result.
fn unseen<'a>(group: &'a Group<'_>) -> impl Iterator<Item = &'a Unseen> {
    let load_balancers = group.load_balancers.iter();
    let load_balancers = load_balancers.flat_map(|one| match one {
        Ok(load_balancer) => load_balancer.attributes.as_ref().err(),
        Err(unseen) => Some(unseen),
    });
    let of_group = [
        group.description.as_ref().err(),
        group.attributes.as_ref().err(),
        group.targets.as_ref().err(),
    ];
    of_group.into_iter().flatten().chain(load_balancers)
}

fn has_code(unseen: &Unseen, is_it: impl Fn(&str) -> bool) -> bool {
    unseen.cause.code.as_deref().is_some_and(is_it)
}

fn is_denied(unseen: &Unseen) -> bool {
    has_code(unseen, |code| code.starts_with("AccessDenied"))
}

fn is_missing(unseen: &Unseen) -> bool {
    has_code(unseen, |code| code == "TargetGroupNotFound")
}
