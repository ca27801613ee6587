//! Target groups as Elastic Load Balancing keeps them. This is a state machine that is told the time and knows no
//! transport.
//!
//! It follows these rules, each from AWS's documentation or seen in the field. A target is (address, port). A
//! deregistered target drains for the deregistration delay, is listed while it drains, and can be registered again. In
//! a group without a load balancer, targets are `unused` and leave at once. Deregistering without the registered port
//! succeeds and does nothing. Inside the VPC the zone is filled in and may not be `all`, and outside it the zone is
//! required. A call is refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

/// The time for which a registered target is `initial`, unless a test says otherwise.
pub const REGISTRATION_LAG: Duration = Duration::from_secs(90);

/// A target as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetDescription {
    pub id: String,
    pub port: Option<u16>,
    pub zone: Option<String>,
}

impl TargetDescription {
    pub fn new(id: &str, port: u16) -> Self {
        TargetDescription {
            id: id.to_owned(),
            port: Some(port),
            zone: None,
        }
    }
}

/// Shows a target as `id:port@zone`, without the parts that are not given.
impl fmt::Display for TargetDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
        self.zone
            .as_ref()
            .map_or(Ok(()), |zone| write!(f, "@{zone}"))
    }
}

/// A target as `DescribeTargetHealth` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// The address as the group writes it.
    pub id: String,
    pub address: IpAddr,
    pub port: u16,
    pub zone: String,
    pub state: &'static str,
    pub reason: Option<&'static str>,
}

/// An answer with an error's code and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

#[derive(Debug, Clone)]
pub struct TargetGroup {
    pub arn: String,
    /// `ip`, `instance`, `lambda` or `alb`.
    pub target_type: &'static str,
    pub protocol: &'static str,
    pub port: u16,
    pub is_ipv6: bool,
    /// The CIDRs of the group's VPC.
    pub vpc: Vec<IpNet>,
    /// The attribute `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: Duration,
    /// The time for which a registered target is `initial`.
    pub registration_lag: Duration,
    /// The attribute `deregistration_delay.connection_termination.enabled`.
    pub is_connection_terminated: bool,
    /// The attribute `load_balancing.cross_zone.enabled`: `true`, `false` or `use_load_balancer_configuration`.
    pub cross_zone: &'static str,
    pub health_check_interval: Duration,
    /// The load balancer that the group belongs to.
    pub load_balancer: Option<LoadBalancer>,
    /// The zones of those addresses of the VPC that are not in [`ZONE`].
    pub zones: BTreeMap<IpAddr, &'static str>,
    /// True if addresses are described as `2001:0db8:0000:…` instead of `2001:db8::…`.
    pub is_written_in_full: bool,
    /// The quota "targets per target group".
    pub max_targets: usize,
    targets: BTreeMap<(IpAddr, u16), Registration>,
}

#[derive(Debug, Clone)]
pub struct LoadBalancer {
    pub arn: String,
    /// The zones in which it is enabled.
    pub zones: BTreeSet<&'static str>,
    /// The attribute `load_balancing.cross_zone.enabled`.
    pub is_cross_zone: bool,
}

#[derive(Debug, Clone)]
struct Registration {
    zone: String,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Registered {
        since: Instant,
    },
    /// A state that a test dictates, such as `unhealthy`.
    Dictated(&'static str),
    Draining {
        until: Instant,
    },
}

/// The zone of a target outside the VPC.
const ALL: &str = "all";
/// The zone that ELB fills in inside the VPC.
pub const ZONE: &str = "eu-west-1a";

impl TargetGroup {
    /// Makes a TCP group of type `ip` on a load balancer of its own, in a VPC with 10.0.0.0/16 and 2001:db8::/56.
    /// Everything else has its default.
    pub fn ipv4(arn: &str, port: u16) -> Self {
        TargetGroup {
            arn: arn.to_owned(),
            target_type: "ip",
            protocol: "TCP",
            port,
            is_ipv6: false,
            vpc: ["10.0.0.0/16", "2001:db8::/56"]
                .map(|cidr| cidr.parse().expect("a CIDR"))
                .to_vec(),
            deregistration_delay: Duration::from_secs(300),
            registration_lag: REGISTRATION_LAG,
            is_connection_terminated: false,
            cross_zone: "use_load_balancer_configuration",
            health_check_interval: Duration::from_secs(30),
            load_balancer: Some(LoadBalancer {
                arn: arn.replace(":targetgroup/", ":loadbalancer/net/"),
                zones: BTreeSet::from([ZONE]),
                is_cross_zone: false,
            }),
            zones: BTreeMap::new(),
            is_written_in_full: false,
            max_targets: 1000,
            targets: BTreeMap::new(),
        }
    }

    pub fn register(&mut self, now: Instant, targets: &[TargetDescription]) -> Result<(), Refusal> {
        self.let_time_pass(now);
        let accepted: Vec<_> = targets
            .iter()
            .map(|target| self.accept(target))
            .collect::<Result<_, _>>()?;
        let is_registered =
            |key| matches!(self.targets.get(key), Some(target) if !target.is_draining());
        let added = accepted
            .iter()
            .filter(|(key, _)| !is_registered(key))
            .count();
        if self.targets.len() + added > self.max_targets {
            return Err(refusal(
                "TooManyTargets",
                "You've reached the limit on the number of targets in a target group",
            ));
        }
        for (key, zone) in accepted {
            let registration = self
                .targets
                .entry(key)
                .or_insert_with(|| Registration::new(&zone, now));
            if registration.is_draining() {
                *registration = Registration::new(&zone, now);
            }
        }
        Ok(())
    }

    /// Returns the identity and the zone that the target will have.
    fn accept(&self, target: &TargetDescription) -> Result<((IpAddr, u16), String), Refusal> {
        let id = &target.id;
        let invalid = |reason: String| refusal("ValidationError", reason);
        let address: IpAddr = id
            .parse()
            .map_err(|_| invalid(format!("The IP address '{id}' is not valid")))?;
        if address.is_ipv6() != self.is_ipv6 {
            let family = if self.is_ipv6 { "IPv6" } else { "IPv4" };
            return Err(invalid(format!(
                "The IP address '{id}' is not a valid {family} address"
            )));
        }
        let is_in_vpc = self.vpc.iter().any(|cidr| cidr.contains(&address));
        if !is_in_vpc && !is_private(address) {
            return Err(invalid(format!(
                "The IP address '{id}' is not a private address"
            )));
        }
        let zone = match (is_in_vpc, target.zone.as_deref()) {
            (true, None) => self.zones.get(&address).copied().unwrap_or(ZONE),
            (true, Some(ALL)) => {
                return Err(invalid(format!(
                    "The IP address '{id}' is within the VPC, and cannot have its Availability Zone overridden to \
                     'all' from '{ZONE}'"
                )));
            }
            (false, None) => {
                return Err(invalid(format!(
                    "The Availability Zone is required for IP address '{id}' because it is not in the VPC"
                )));
            }
            (_, Some(zone)) => zone,
        };
        Ok(((address, target.port.unwrap_or(self.port)), zone.to_owned()))
    }

    pub fn deregister(&mut self, now: Instant, targets: &[TargetDescription]) {
        self.let_time_pass(now);
        for target in targets {
            let (Ok(address), Some(port)) = (target.id.parse(), target.port) else {
                continue;
            };
            let Some(registration) = self.targets.get_mut(&(address, port)) else {
                continue;
            };
            if !registration.is_draining() {
                let delay = match self.load_balancer {
                    Some(_) => self.deregistration_delay,
                    None => Duration::ZERO,
                };
                registration.state = State::Draining { until: now + delay };
            }
        }
        self.let_time_pass(now);
    }

    pub fn describe(&mut self, now: Instant) -> Vec<TargetHealth> {
        self.let_time_pass(now);
        let health = |(&(address, port), registration): (&(IpAddr, u16), &Registration)| {
            let (state, reason) = self.state(now, registration);
            let zone = registration.zone.clone();
            TargetHealth {
                id: self.write(address),
                address,
                port,
                zone,
                state,
                reason,
            }
        };
        self.targets.iter().map(health).collect()
    }

    fn write(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V6(address) if self.is_written_in_full => {
                let groups = address.segments().map(|group| format!("{group:04x}"));
                groups.join(":")
            }
            address => address.to_string(),
        }
    }

    /// Dictates the state of a target from now on, such as the verdict of a health check.
    pub fn dictate(&mut self, address: IpAddr, port: u16, state: &'static str) {
        let registration = self
            .targets
            .get_mut(&(address, port))
            .expect("a registered target");
        registration.state = State::Dictated(state);
    }

    fn state(
        &self,
        now: Instant,
        registration: &Registration,
    ) -> (&'static str, Option<&'static str>) {
        match registration.state {
            State::Draining { .. } => ("draining", Some("Target.DeregistrationInProgress")),
            _ if !self.is_in_use(&registration.zone) => ("unused", Some("Target.NotInUse")),
            State::Dictated("unhealthy") => ("unhealthy", Some("Target.FailedHealthChecks")),
            State::Dictated(state) => (state, None),
            State::Registered { since } if now < since + self.registration_lag => {
                ("initial", Some("Elb.RegistrationInProgress"))
            }
            State::Registered { .. } => ("healthy", None),
        }
    }

    /// Returns true if a load balancer is enabled in this zone.
    fn is_in_use(&self, zone: &str) -> bool {
        let load_balancer = self.load_balancer.as_ref();
        load_balancer.is_some_and(|one| zone == ALL || one.zones.contains(zone))
    }

    fn let_time_pass(&mut self, now: Instant) {
        let is_gone = |state: State| matches!(state, State::Draining { until } if until <= now);
        self.targets.retain(|_, target| !is_gone(target.state));
    }
}

impl Registration {
    fn new(zone: &str, now: Instant) -> Self {
        Registration {
            zone: zone.to_owned(),
            state: State::Registered { since: now },
        }
    }

    fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }
}

/// The ranges in which an NLB accepts addresses as targets.
pub const RANGES: [&str; 6] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "2000::/3",
];

fn is_private(address: IpAddr) -> bool {
    let mut ranges = RANGES.iter().map(|range| range.parse::<IpNet>());
    ranges.any(|range| range.is_ok_and(|range| range.contains(&address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn";

    fn target(id: &str, zone: Option<&str>) -> TargetDescription {
        let zone = zone.map(str::to_owned);
        TargetDescription {
            zone,
            ..TargetDescription::new(id, 6379)
        }
    }

    /// Makes a group, and registers one target in it.
    fn registered(
        load_balancer: bool,
        port: u16,
    ) -> (TargetGroup, [TargetDescription; 1], Instant) {
        let (mut group, now) = (TargetGroup::ipv4(ARN, 6379), Instant::now());
        group.load_balancer = group.load_balancer.filter(|_| load_balancer);
        let target = [TargetDescription::new("10.0.1.7", port)];
        group.register(now, &target).unwrap();
        (group, target, now)
    }

    fn states(group: &mut TargetGroup, now: Instant) -> Vec<(u16, &'static str)> {
        let health = group.describe(now).into_iter();
        health.map(|target| (target.port, target.state)).collect()
    }

    #[test]
    fn a_target_is_initial_then_healthy_then_draining_then_gone() {
        let (mut group, target, begin) = registered(true, 6379);
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(states(&mut group, at(89)), [(6379, "initial")]);
        assert_eq!(states(&mut group, at(90)), [(6379, "healthy")]);
        group.deregister(at(100), &target);
        // The second call does not prolong the drain.
        group.deregister(at(200), &target);
        assert_eq!(states(&mut group, at(399)), [(6379, "draining")]);
        assert_eq!(states(&mut group, at(400)), []);
    }

    #[test]
    fn a_draining_target_can_be_registered_again() {
        let (mut group, target, now) = registered(true, 6379);
        group.deregister(now, &target);
        group.register(now, &target).unwrap();
        assert_eq!(states(&mut group, now), [(6379, "initial")]);
    }

    #[test]
    fn deregistering_without_the_registered_port_does_nothing() {
        let (mut group, [mut target], now) = registered(true, 7000);
        for port in [None, Some(6379)] {
            target.port = port;
            group.deregister(now, &[target.clone()]);
            assert_eq!(states(&mut group, now), [(7000, "initial")]);
        }
    }

    #[test]
    fn a_call_is_refused_whole() {
        let (mut group, now) = (TargetGroup::ipv4(ARN, 6379), Instant::now());
        for refused in [
            target("192.168.7.7", None),
            target("10.0.1.8", Some("all")),
            target("8.8.8.8", Some("all")),
            target("2001:db8::9", None),
            target("i-0123456789abcdef0", None),
        ] {
            let both = [target("10.0.1.7", None), refused];
            let refusal = group.register(now, &both).unwrap_err();
            assert_eq!(refusal.code, "ValidationError");
            assert_eq!(states(&mut group, now), []);
        }
    }

    #[test]
    fn the_quota_counts_draining_targets_and_no_target_twice() {
        let (mut group, now) = (TargetGroup::ipv4(ARN, 6379), Instant::now());
        group.max_targets = 2;
        let [first, second, third] =
            ["10.0.1.1", "10.0.1.2", "10.0.1.3"].map(|id| target(id, None));
        group.register(now, &[first.clone(), second]).unwrap();
        group.register(now, &[first]).unwrap();
        assert_eq!(
            group.register(now, &[third]).unwrap_err().code,
            "TooManyTargets"
        );
    }

    #[test]
    fn without_a_load_balancer_targets_are_unused_and_leave_at_once() {
        let (mut group, target, now) = registered(false, 6379);
        assert_eq!(states(&mut group, now), [(6379, "unused")]);
        group.deregister(now, &target);
        assert_eq!(states(&mut group, now), []);
    }
}
