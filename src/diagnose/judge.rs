//! What was seen, judged: a pure function. Each rule is one function, and says nothing where what it is
//! about could not be seen, or where another finding already explains it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    ProtocolEnum, TargetGroup as DescribedTargetGroup, TargetHealthDescription,
    TargetHealthReasonEnum, TargetTypeEnum,
};

use super::finding::Severity::{self, Info, Warning};
use super::finding::{Finding, Findings};
use super::seen::{Attributes, Group, LoadBalancer, Name, Seen, Server, Unseen};
use crate::config::{Config, MAX_ADDRESSES};
use crate::error::{Error, enumerate};
use crate::plan::{MARGIN, State, Target};

/// What a TCP client reaches a target with. A QUIC group needs a server id for each target.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-target-groups.html>
const PROTOCOLS: [ProtocolEnum; 4] = [
    ProtocolEnum::Tcp,
    ProtocolEnum::Tls,
    ProtocolEnum::Udp,
    ProtocolEnum::TcpUdp,
];
/// New connections still reach a deregistered target for two minutes, and a connection that begins after
/// the delay may never be ended.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#deregistration-delay>
const SHORTEST_DELAY: Duration = Duration::from_secs(120);
/// A client stays on the demoted node for that long.
const LONGEST_DELAY: Duration = Duration::from_secs(180);
/// Between two health checks of a target.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// A doubt that takes longer is not waited for within an invocation of a minute.
const LONGEST_DOUBT: Duration = Duration::from_secs(60);

const DELAY: &str = "deregistration_delay.timeout_seconds";
const TERMINATION: &str = "deregistration_delay.connection_termination.enabled";
const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
const ALL_ZONES: &str = "all";

/// Worst first, and otherwise in configuration order.
pub fn judge(config: &Config, seen: &Seen<'_>) -> Findings {
    let mut findings = permissions(seen);
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

/// By an invalid configuration nothing can be looked at.
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

/// Of each action once, since none of them takes a resource.
fn permissions(seen: &Seen<'_>) -> Vec<Finding> {
    let mut denied: Vec<&Unseen> = Vec::new();
    for unseen in seen.groups.iter().flat_map(unseen) {
        if is_denied(unseen) && denied.iter().all(|one| one.action != unseen.action) {
            denied.push(unseen);
        }
    }
    let finding = |unseen: &Unseen| {
        let action = format!("elasticloadbalancing:{}", unseen.action);
        let severity = match unseen.action {
            "DescribeTargetGroups" | "DescribeTargetHealth" => Severity::Error,
            // Only the diagnosis needs it.
            _ => Warning,
        };
        Finding::new(
            "permission-missing",
            severity,
            format!("{action}: {}", unseen.cause),
            format!("allow {action} on * in the function's role"),
        )
    };
    denied.into_iter().map(finding).collect()
}

/// All calls about the group that brought nothing.
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

fn of_name(config: &Config, name: &Name<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match unresolved(name) {
        Some(finding) => findings.push(finding),
        None => {
            let is_in_part = name.servers.iter().flatten().any(answers_in_part);
            findings.extend(in_part(config, name, is_in_part));
            findings.extend(not_allowed(config, name));
            findings.extend(disagreement(name, is_in_part));
            findings.extend(long_ttl(name));
        }
    }
    let endpoint = name.endpoint.to_string();
    findings.iter_mut().for_each(|finding| {
        finding.endpoint = Some(endpoint.clone());
    });
    findings
}

fn unresolved(name: &Name<'_>) -> Option<Finding> {
    let seen = match &name.servers {
        Err(cause) => cause.clone(),
        Ok(servers) if name.found().next().is_none() => {
            let last = |server: &Server| {
                let cause = server.lookups.last()?.as_ref().err()?;
                Some(format!("{} {cause}", server.address))
            };
            enumerate(servers.iter().filter_map(last))
        }
        Ok(_) => return None,
    };
    Some(error(
        "endpoint-unresolved",
        seen,
        "correct Endpoints; for a name that only the VPC knows, set DnsServers or attach the function with VpcSubnetIds",
    ))
}

/// Whether its answer changed more than once. In a failover it changes once.
fn answers_in_part(server: &Server) -> bool {
    let answers = server.found().map(|found| &found.addresses);
    let answers: Vec<BTreeSet<_>> = answers.map(|one| one.iter().collect()).collect();
    let changes = answers.windows(2).filter(|pair| pair[0] != pair[1]);
    changes.count() > 1
}

fn in_part(config: &Config, name: &Name<'_>, is_in_part: bool) -> Option<Finding> {
    let is_expected = config.misses_before_deregistration > 0;
    (is_in_part && !is_expected).then(|| {
        warning(
            "endpoint-answers-in-part",
            format!(
                "its answers take turns: {} in all",
                enumerate(name.addresses())
            ),
            "set LookupsPerReconcile to 8 and MissesBeforeDeregistration to 24, or targets come and go with the answers",
        )
    })
}

fn not_allowed(config: &Config, name: &Name<'_>) -> Option<Finding> {
    let refused = |address| Some((address, config.reason_to_refuse(address)?));
    let (address, reason) = name.addresses().into_iter().find_map(refused)?;
    Some(error(
        "address-not-allowed",
        format!("{address} is {reason}"),
        "if the address is right, correct AllowedCidrs or KeepCidrs; if not, find out who answers for the name",
    ))
}

/// Of servers whose answers take turns, only those disagree that have nothing in common.
fn disagreement(name: &Name<'_>, is_in_part: bool) -> Option<Finding> {
    let servers = name.servers.as_ref().ok()?;
    let (first, others) = servers.split_first()?;
    let expected = first.addresses();
    let is_same = |server: &Server| {
        let addresses = server.addresses();
        addresses == expected || (is_in_part && !addresses.is_disjoint(&expected))
    };
    if others.iter().all(is_same) {
        return None;
    }
    let one = |server: &Server| {
        let answer = match server.lookups.last() {
            Some(Err(cause)) if server.found().next().is_none() => cause.clone(),
            _ => format!("says {}", enumerate(server.addresses())),
        };
        format!("{} {answer}", server.address)
    };
    Some(warning(
        "dns-servers-disagree",
        enumerate(servers.iter().map(one)),
        "take the server that is wrong or silent out of DnsServers, or mend it; the first answer is taken",
    ))
}

fn long_ttl(name: &Name<'_>) -> Option<Finding> {
    let ttl = ttl(name);
    (ttl + MARGIN > LONGEST_DOUBT).then(|| {
        warning(
            "ttl-long",
            format!("TTL {} s", ttl.as_secs()),
            "shorten the record's TTL, to 5 s as ElastiCache has it: a cache may hide a failover for that long",
        )
    })
}

fn ttl(name: &Name<'_>) -> Duration {
    name.found()
        .map(|found| found.ttl)
        .max()
        .unwrap_or_default()
}

fn of_group(config: &Config, group: &Group<'_>, seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = unseen(group)
        .filter(|unseen| !is_denied(unseen) && !is_missing(unseen))
        .map(not_seen)
        .collect();
    if unseen(group).any(is_missing) {
        findings.push(error(
            "target-group-missing",
            "Elastic Load Balancing knows no such target group",
            "correct TargetGroupArns, or make the target group",
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
        if config.misses_before_deregistration == 0 {
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
            format!("{count} addresses are more than {MAX_ADDRESSES}"),
            "find out who answers for the name",
        )
    })
}

fn not_seen(unseen: &Unseen) -> Finding {
    let (action, cause) = (unseen.action, &unseen.cause);
    Finding::new(
        "call-failed",
        Info,
        format!("elasticloadbalancing:{action}: {cause}"),
        "diagnose again; what this call would have shown is not judged".to_owned(),
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

/// Where the endpoints are, if all of them answered what is not refused, and the port is known.
fn desired(config: &Config, group: &Group<'_>, names: &[&Name<'_>]) -> Option<BTreeSet<Target>> {
    let of_group = || u16::try_from(group.description.as_ref().ok()?.port()?).ok();
    let port = config.target_port.or_else(of_group)?;
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
            "make another target group with --target-type ip, which cannot be changed later",
        ));
    }
    let protocol = description.protocol()?;
    (!PROTOCOLS.contains(protocol)).then(|| {
        error(
            "protocol-unfit",
            format!("its protocol is {protocol}"),
            "make another target group with --protocol TCP, which cannot be changed later",
        )
    })
}

fn modify(group: &Group<'_>, what: &str) -> String {
    let arn = &group.config.arn;
    format!("aws elbv2 {what} --target-group-arn {arn}")
}

fn set(group: &Group<'_>, key: &str, value: &str) -> String {
    let modify = modify(group, "modify-target-group-attributes");
    format!("{modify} --attributes Key={key},Value={value}")
}

fn unfit_delay(group: &Group<'_>, attributes: &Attributes, names: &[&Name<'_>]) -> Option<Finding> {
    let delay = Duration::from_secs(attributes.get(DELAY)?.parse().ok()?);
    let ttl = names.iter().map(|name| ttl(name)).max().unwrap_or_default();
    let reason = if delay < SHORTEST_DELAY {
        "a client that connects to the demoted node after it is never cut off"
    } else if delay <= ttl + MARGIN {
        "it is shorter than the name's TTL, so that a stale answer is not recognised by what drains"
    } else if delay > LONGEST_DELAY {
        "clients stay on the demoted node for that long"
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
            format!(
                "{TERMINATION} is not true: clients keep their connections to the demoted node"
            ),
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
                "a target is checked every {} s, so that a new one serves later",
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
            "aws elbv2 create-listener with this target group in its default action",
        )
    })
}

/// Where it is off, a zone without a target leaves the load balancer's DNS name.
fn cross_zone_off(
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
        // Before the first reconcile.
        [] => desired?.len(),
        _ => load_balancer.zones.iter().filter(is_served).count(),
    };
    let all = load_balancer.zones.len();
    (!is_on && count < all).then(|| {
        warning(
            "cross-zone-off",
            format!(
                "{CROSS_ZONE} is not true, and of the {all} zones of {} {count} have a target: the others leave its DNS name",
                load_balancer.arn
            ),
            set(group, CROSS_ZONE, "true"),
        )
    })
}

fn zone(target: &TargetHealthDescription) -> Option<&str> {
    target.target()?.availability_zone()
}

fn state(target: &TargetHealthDescription) -> State {
    let health = target.target_health();
    let state = health.and_then(|health| health.state().cloned());
    state.unwrap_or(State::from(""))
}

fn address(target: &TargetHealthDescription) -> Option<Target> {
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
fn elsewhere<'a>(
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

fn zone_not_enabled(target: &TargetHealthDescription) -> Finding {
    let zone = zone(target).unwrap_or_default();
    error(
        "zone-not-enabled",
        format!(
            "{} is in {zone}, in which the load balancer is not enabled",
            name_of(target)
        ),
        format!("aws elbv2 set-subnets with a subnet of {zone} besides the present ones"),
    )
}

/// With nobody else who serves, or will soon, clients are not served at all.
fn unhealthy(
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
        // That nobody uses it is the load balancer's fault.
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
            "admit the load balancer's addresses or security group in the security group of the service, on this port"
                .to_owned(),
        )
    };
    unhealthy.map(finding).collect()
}

fn foreign_target(target: &TargetHealthDescription) -> Finding {
    let name = name_of(target);
    let id = target.target().and_then(|target| target.id());
    warning(
        "target-foreign",
        format!("no endpoint is at {name}, so that it is deregistered"),
        format!(
            "if it is to stay, put {} into KeepCidrs",
            id.unwrap_or_default()
        ),
    )
}
