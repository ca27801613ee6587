//! These rules find what is wrong with a target group, and say which rules about its targets apply.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    TargetGroup as DescribedTargetGroup, TargetHealthDescription, TargetTypeEnum,
};

use super::name::ttl;
use super::target::{
    address, cross_zone_off, elsewhere, foreign_target, state, unhealthy, zone_not_enabled,
};
use super::{error, is_denied, is_missing, modify, set, unseen, warning};
use crate::config::Config;
use crate::diagnose::finding::Finding;
use crate::diagnose::seen::{Attributes, Group, Name, Seen, Unseen};
use crate::plan::MAX_ADDRESSES;
use crate::plan::{MARGIN, State, Target};
use crate::target_group::UNFIT_PROTOCOLS;

/// AWS recommends at least this much, so that requests are completed. New connections still reach a deregistered
/// target for 10 s, for 120 s or for 180 to 300 s, as its users and AWS Support report, and a connection that begins
/// after the delay may never be ended.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#deregistration-delay>
const SHORTEST_DELAY: Duration = Duration::from_secs(120);
/// A client can stay on the old target for this long. It is the longest of those reports.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// The longest acceptable time between two health checks of a target.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

const DELAY: &str = "deregistration_delay.timeout_seconds";
const TERMINATION: &str = "deregistration_delay.connection_termination.enabled";

pub(super) fn of_group(config: &Config, group: &Group<'_>, seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = unseen(group)
        .filter(|unseen| !is_denied(unseen) && !is_missing(unseen))
        .map(not_seen)
        .collect();
    if unseen(group).any(is_missing) {
        // A list may name a deleted group for some minutes.
        if group.config.is_listed {
            return Vec::new();
        }
        findings.push(error(
            "target-group-missing",
            "Elastic Load Balancing has no target group with this ARN",
            "correct TargetGroupArns, or create the target group",
        ));
        return findings;
    }
    let description = group.description.as_ref().ok();
    if let Some(unfit) = description.and_then(unfit) {
        findings.push(unfit);
        return findings;
    }
    let names = names(group, seen);
    if let Ok(attributes) = &group.attributes {
        findings.extend(unfit_delay(group, attributes, &names));
        findings.extend(unterminated(group, attributes));
    }
    if let Some(description) = description {
        findings.extend(slow_health_check(group, description));
        findings.extend(no_load_balancer(description));
    }
    let Ok(targets) = &group.targets else {
        return findings;
    };
    let is_current = |one: &&TargetHealthDescription| state(one) != State::Draining;
    let targets: Vec<_> = targets.iter().filter(is_current).collect();
    let desired = desired(config, group, &names);
    let load_balancers: Vec<_> = group.load_balancers.iter().flatten().collect();
    for load_balancer in &load_balancers {
        let desired = desired.as_ref();
        findings.extend(cross_zone_off(group, load_balancer, &targets, desired));
    }
    let mut own = targets.clone();
    own.retain(|one| address(one).is_none_or(|target| !config.is_kept(target.ip())));
    if let Some(desired) = &desired {
        findings.extend(too_many(desired));
        if group.config.settings.misses == 0 {
            let is_foreign = |target: Target| !desired.contains(&target);
            let (foreign, rest): (Vec<_>, _) = own
                .into_iter()
                .partition(|one| address(one).is_some_and(is_foreign));
            findings.extend(foreign.into_iter().map(foreign_target));
            own = rest;
        }
    }
    let elsewhere = elsewhere(&load_balancers, &own);
    findings.extend(elsewhere.iter().map(|one| zone_not_enabled(one)));
    findings.extend(unhealthy(&targets, &own, &elsewhere));
    findings
}

fn too_many(desired: &BTreeSet<Target>) -> Option<Finding> {
    let count = desired.len();
    (count > MAX_ADDRESSES).then(|| {
        error(
            "address-not-allowed",
            format!(
                "its endpoints have {count} addresses, and at most {MAX_ADDRESSES} are allowed"
            ),
            "find out which DNS server gives this answer",
        )
    })
}

/// Nothing was judged that depends on the call, so the deployment may not be sound.
fn not_seen(unseen: &Unseen) -> Finding {
    let (action, cause) = (unseen.action, &unseen.cause);
    let mend = match &cause.code {
        Some(_) => "diagnose again: nothing was judged that depends on this call",
        None => {
            "diagnose again: nothing was judged that depends on this call; if no call gets an answer from AWS, let the \
             function reach Elastic Load Balancing, in a VPC through NAT or the interface endpoint elasticloadbalancing"
        }
    };
    error(
        "call-failed",
        format!("elasticloadbalancing:{action}: {cause}"),
        mend,
    )
}

/// The names of the group's endpoints.
fn names<'a>(group: &Group<'_>, seen: &'a Seen<'_>) -> Vec<&'a Name<'a>> {
    let is_its = |name: &&Name<'_>| {
        Some(name.record_type) == group.record_type()
            && group.config.endpoints.contains(name.endpoint)
    };
    seen.names.iter().filter(is_its).collect()
}

/// The desired targets. They are known if every endpoint gave an answer that is not refused, and if the port is known.
fn desired(config: &Config, group: &Group<'_>, names: &[&Name<'_>]) -> Option<BTreeSet<Target>> {
    let of_group = || u16::try_from(group.description.as_ref().ok()?.port()?).ok();
    let port = group.config.settings.port.or_else(of_group)?;
    group.record_type()?;
    let mut desired = BTreeSet::new();
    for name in names {
        let addresses = name.addresses();
        let is_usable = |address: &IpAddr| config.reason_to_refuse(*address).is_none();
        if addresses.is_empty() || !addresses.iter().all(is_usable) {
            return None;
        }
        desired.extend(addresses.iter().map(|address| Target::new(*address, port)));
    }
    Some(desired)
}

fn unfit(description: &DescribedTargetGroup) -> Option<Finding> {
    let target_type = description.target_type().map_or("", TargetTypeEnum::as_str);
    if target_type != "ip" {
        return Some(error(
            "target-type-unfit",
            format!("its target type is {target_type:?}"),
            "create another target group with --target-type ip: the type of an existing group cannot be changed",
        ));
    }
    let protocol = description.protocol()?;
    UNFIT_PROTOCOLS.contains(protocol).then(|| {
        error(
            "protocol-unfit",
            format!("its protocol is {protocol}"),
            "create another target group with --protocol TCP: the protocol of an existing group cannot be changed",
        )
    })
}

fn unfit_delay(group: &Group<'_>, attributes: &Attributes, names: &[&Name<'_>]) -> Option<Finding> {
    let delay = Duration::from_secs(attributes.get(DELAY)?.parse().ok()?);
    let ttl = names.iter().map(|name| ttl(name)).max().unwrap_or_default();
    let reason = if delay < SHORTEST_DELAY {
        "a client that connects to the old target after that may never be cut off".to_owned()
    } else if delay <= ttl + MARGIN {
        format!(
            "it is not longer than the name's TTL plus {} s, so a stale answer can outlive the draining \
             target and is not recognised",
            MARGIN.as_secs_f64()
        )
    } else if delay > LONGEST_DELAY {
        "clients stay on the old target for that long".to_owned()
    } else {
        return None;
    };
    Some(warning(
        "deregistration-delay-unfit",
        format!("{DELAY} is {}: {reason}", delay.as_secs()),
        set(group, DELAY, "120"),
    ))
}

fn unterminated(group: &Group<'_>, attributes: &Attributes) -> Option<Finding> {
    (attributes.get(TERMINATION)? != "true").then(|| {
        warning(
            "connections-not-terminated",
            format!("{TERMINATION} is not true: clients keep their connections to the old target"),
            set(group, TERMINATION, "true"),
        )
    })
}

fn slow_health_check(group: &Group<'_>, description: &DescribedTargetGroup) -> Option<Finding> {
    let interval = description.health_check_interval_seconds()?;
    let interval = Duration::from_secs(interval.try_into().ok()?);
    let longest = LONGEST_INTERVAL.as_secs();
    (interval > LONGEST_INTERVAL).then(|| {
        warning(
            "health-check-slow",
            format!(
                "the health check interval is {} s, so a new target serves later",
                interval.as_secs()
            ),
            format!(
                "{} --health-check-interval-seconds {longest}",
                modify(group, "modify-target-group")
            ),
        )
    })
}

fn no_load_balancer(description: &DescribedTargetGroup) -> Option<Finding> {
    description.load_balancer_arns().is_empty().then(|| {
        error(
            "load-balancer-missing",
            "no load balancer forwards to the target group",
            "forward to this target group from a listener: aws elbv2 create-listener",
        )
    })
}
