//! Writes a history as a person reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use stand_in::elb::{TargetDescription, TargetHealth};

use crate::check::Violation;
use crate::history::{Call, Entry, What};
use crate::sequence::Setting;

/// Tells what happened up to the violation, with one line for each entry.
pub fn tell(setting: &Setting, history: &[Entry], violation: Option<&Violation>) -> String {
    let end = violation.map_or(Duration::MAX, |violation| violation.at);
    let until = history.iter().filter(|entry| entry.at <= end).count();
    let mut story = format!("{setting:#?}\n{}", lines(&history[..until]).join("\n"));
    if let Some(Violation { promise, text, .. }) = violation {
        story.push_str(&format!("\n{:>12} VIOLATION of {promise}: {text}", ""));
    }
    story
}

pub fn lines(history: &[Entry]) -> Vec<String> {
    let mut calls = BTreeMap::new();
    let line = |entry: &Entry| {
        if let What::Called(call) = &entry.what {
            calls.insert(call.id, call.clone());
        }
        let text = line(&entry.what, &calls)?;
        Some(format!("{:>10.3} s {text}", entry.at.as_secs_f64()))
    };
    history.iter().filter_map(line).collect()
}

fn line(what: &What, calls: &BTreeMap<u64, Call>) -> Option<String> {
    Some(match what {
        What::Moved {
            endpoint,
            to,
            is_failback,
        } => {
            let back = if *is_failback {
                ", where a target drains"
            } else {
                ""
            };
            format!("{endpoint} moves to {to:?}{back}")
        }
        What::Meddled {
            arn,
            target,
            is_registering: true,
            ..
        } => {
            format!("somebody registers {target} in {}", short(arn))
        }
        What::Meddled { arn, target, .. } => {
            format!("somebody deregisters {target} from {}", short(arn))
        }
        What::Out {
            endpoint,
            is_over: false,
        } => format!("{endpoint} cannot be resolved"),
        What::Out { endpoint, .. } => format!("{endpoint} can be resolved again"),
        What::Stepped { by } => format!("the wall clock is set forward by {by:?}"),
        What::Others { share } => format!("others take {share} of the account's calls"),
        What::Tagged { arn, tags } => match tags.is_empty() {
            true => format!("{} leaves the fleet", short(arn)),
            false => format!("{} has the tags {:?}", short(arn), tags.values()),
        },
        What::Deleted { arn } => format!("somebody deletes {}", short(arn)),
        What::Begun { life, event } => format!("{life}: {event:?}"),
        What::Disturbed { life, fault } => format!("{life}: a question goes wrong: {fault:?}"),
        What::Asked { .. } => return None,
        What::Answered {
            life,
            name,
            addresses,
            ttl,
            ..
        } => {
            format!(
                "{life}: {name} is at {addresses:?}, TTL {} s",
                ttl.as_secs()
            )
        }
        What::Called(call) => {
            let (action, group) = (&call.action, short(&call.arn));
            format!(
                "{}: {action} {group}{}",
                call.life,
                described(&call.targets)
            )
        }
        What::Arrived {
            call,
            outcome,
            group,
            page,
            ..
        } => {
            let Call {
                life, action, arn, ..
            } = &calls[call];
            if let Some(page) = page {
                let groups = page.groups.iter();
                let groups =
                    groups.map(|(arn, tags)| format!("{} {:?}", short(arn), tags.values()));
                let groups: Vec<_> = groups.collect();
                return Some(format!("  a list of {life}: {}", groups.join(", ")));
            }
            let group = match group.is_empty() {
                true => String::new(),
                false => format!("; {} has {}", short(arn), states(group)),
            };
            format!("  {action} of {life} arrives: {outcome}{group}")
        }
        What::Returned { .. } => return None,
        What::Logged { life, line } => {
            let (group, error) = (short(&line.target_group_arn), &line.error);
            format!("{life}: {} {group} {error}", line.message)
        }
        What::Ended {
            life, error: None, ..
        } => format!("{life} ends"),
        What::Ended { life, .. } => format!("{life} ends in error"),
        What::Lost { life } => format!("{life} is lost"),
        What::TimedOut { life } => format!("{life} is ended by Lambda"),
        What::Healed => "from now on nothing goes wrong".to_owned(),
        What::Settled { .. } => "the groups have to be where DNS is".to_owned(),
    })
}

/// Names the group by its index among the groups.
fn short(arn: &str) -> String {
    let index = arn.rsplit('/').next();
    let index = index.and_then(|index| u64::from_str_radix(index, 16).ok());
    index.map_or(String::new(), |index| format!("group {index}"))
}

fn described(targets: &[TargetDescription]) -> String {
    let one = |target: &TargetDescription| format!(" {}:{}", target.id, target.port.unwrap_or(0));
    targets.iter().map(one).collect()
}

fn states(group: &[TargetHealth]) -> String {
    let one = |target: &TargetHealth| format!("{}:{} {}", target.id, target.port, target.state);
    group.iter().map(one).collect::<Vec<_>>().join(", ")
}
