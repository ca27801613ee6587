//! These rules find what is wrong with targets, and with the zones in which they are.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::types::{TargetHealthDescription, TargetHealthReasonEnum};

use super::{error, set, warning};
use crate::diagnose::finding::Finding;
use crate::diagnose::finding::Severity::{self, Warning};
use crate::diagnose::seen::{Group, LoadBalancer};
use crate::plan::{State, Target};

const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
const ALL_ZONES: &str = "all";

/// If cross-zone load balancing is off, a zone without a target leaves the load balancer's DNS name.
pub(super) fn cross_zone_off(
    group: &Group<'_>,
    load_balancer: &LoadBalancer,
    targets: &[&TargetHealthDescription],
    desired: Option<&BTreeSet<Target>>,
) -> Option<Finding> {
    let of_group = group.attributes.as_ref().ok()?.get(CROSS_ZONE)?;
    let is_on = match of_group {
        "true" => true,
        "false" => false,
        _ => load_balancer.attributes.as_ref().ok()?.get(CROSS_ZONE)? == "true",
    };
    let zones: BTreeSet<_> = targets.iter().filter_map(|one| zone(one)).collect();
    let is_served = |zone: &&String| zones.contains(zone.as_str()) || zones.contains(ALL_ZONES);
    let count = match targets {
        // The group is empty before the first reconcile, so each desired target counts as one zone.
        [] => desired?.len(),
        _ => load_balancer.zones.iter().filter(is_served).count(),
    };
    let all = load_balancer.zones.len();
    (!is_on && count < all).then(|| {
        warning(
            "cross-zone-off",
            format!(
                "{CROSS_ZONE} is not true, and {} has targets in only {count} of its {all} zones: the others leave its DNS name",
                load_balancer.arn
            ),
            set(group, CROSS_ZONE, "true"),
        )
    })
}

fn zone(target: &TargetHealthDescription) -> Option<&str> {
    target.target()?.availability_zone()
}

pub(super) fn state(target: &TargetHealthDescription) -> State {
    let health = target.target_health();
    let state = health.and_then(|health| health.state().cloned());
    state.unwrap_or(State::from(""))
}

pub(super) fn address(target: &TargetHealthDescription) -> Option<Target> {
    let target = target.target()?;
    let port = u16::try_from(target.port()?).ok()?;
    Some(Target::new(target.id()?.parse().ok()?, port))
}

fn name_of(target: &TargetHealthDescription) -> String {
    let id = target.target().and_then(|target| target.id());
    let id = id.unwrap_or_default().to_owned();
    address(target).map_or(id, |target| target.to_string())
}

/// The targets in zones in which none of the load balancers is enabled.
pub(super) fn elsewhere<'a>(
    load_balancers: &[&LoadBalancer],
    targets: &[&'a TargetHealthDescription],
) -> Vec<&'a TargetHealthDescription> {
    let is_enabled = |zone: &str| {
        let mut load_balancers = load_balancers.iter();
        zone == ALL_ZONES || load_balancers.any(|one| one.zones.contains(zone))
    };
    let is_elsewhere = |one: &&TargetHealthDescription| {
        !load_balancers.is_empty() && zone(one).is_some_and(|zone| !is_enabled(zone))
    };
    targets.iter().copied().filter(is_elsewhere).collect()
}

pub(super) fn zone_not_enabled(target: &TargetHealthDescription) -> Finding {
    let zone = zone(target).unwrap_or_default();
    error(
        "zone-not-enabled",
        format!(
            "{} is in {zone}, but the load balancer is not enabled there",
            name_of(target)
        ),
        format!("aws elbv2 set-subnets with the present subnets and one in {zone}"),
    )
}

/// Clients are not served at all if no target is healthy or initial. The finding is an error then.
pub(super) fn unhealthy(
    targets: &[&TargetHealthDescription],
    own: &[&TargetHealthDescription],
    elsewhere: &[&TargetHealthDescription],
) -> Vec<Finding> {
    let is_serving = targets
        .iter()
        .any(|one| matches!(state(one), State::Healthy | State::Initial));
    let severity = match is_serving {
        true => Warning,
        false => Severity::Error,
    };
    let is_unhealthy = |one: &&&TargetHealthDescription| {
        let reason = one.target_health().and_then(|health| health.reason());
        // If a target is not in use, that is the load balancer's fault.
        let is_unusable = reason.is_some_and(|reason| *reason != TargetHealthReasonEnum::NotInUse);
        match state(one) {
            State::Unhealthy | State::UnhealthyDraining => true,
            State::Unused => is_unusable,
            _ => false,
        }
    };
    let unhealthy = own.iter().filter(is_unhealthy);
    let unhealthy = unhealthy.filter(|one| !elsewhere.contains(one));
    let finding = |one: &&TargetHealthDescription| {
        let health = one.target_health();
        let reason = health.and_then(|health| health.reason());
        let reason = reason.map_or("no reason", TargetHealthReasonEnum::as_str);
        let text = health.and_then(|health| health.description());
        let text = text.map_or_else(String::new, |text| format!(", {text}"));
        Finding::new(
            "target-unhealthy",
            severity,
            format!("{} is {}: {reason}{text}", name_of(one), state(one)),
            "allow the load balancer's addresses or security group in the service's security group, on this port"
                .to_owned(),
        )
    };
    unhealthy.map(finding).collect()
}

pub(super) fn foreign_target(target: &TargetHealthDescription) -> Finding {
    let name = name_of(target);
    let id = target.target().and_then(|target| target.id());
    warning(
        "target-foreign",
        format!("no endpoint resolves to {name}, so a later reconcile deregisters it"),
        format!(
            "add {} to KeepCidrs if it should stay",
            id.unwrap_or_default()
        ),
    )
}
