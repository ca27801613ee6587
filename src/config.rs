//! Environment variables are parsed once, at the edge. They become a complete [`Config`] or one precise
//! error. Nothing is silently replaced by a default, and nothing else in the crate reads these variables.

mod tags;
mod variable;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::target_group::TargetGroupArn;
use variable::{
    Variable, boolean, cidr, dns_server, domain, fleet, list, minutes, namespace, port, rate,
};

pub use tags::{FLEET_TAG, Tags};

/// The IPv4 ranges that an NLB accepts as targets, and the unique local and global unicast ranges of IPv6.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-target-groups.html#target-type>
const DEFAULT_ALLOWED_CIDRS: &str =
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7,2000::/3";
const DEFAULT_METRIC_NAMESPACE: &str = "NlbHostnameTarget";
const DEFAULT_URL_SUFFIX: &str = "amazonaws.com";
const CIDRS: &str =
    "comma-separated CIDRs such as 10.0.0.0/8 or fd00::/8, with no bits set behind the prefix";
/// Whoever may tag a target group says what is followed, so a fleet has no default.
const FLEETS_CIDRS: &str = "comma-separated CIDRs such as 10.0.0.0/8 or fd00::/8, with no bits set behind the prefix; they are required \
                            with FLEET";
const PORT_RULE: &str = "a port from 1 to 65535";
const LOOKUPS: RangeInclusive<u32> = 1..=32;
const MISSES: RangeInclusive<u32> = 0..=1000;
const FLEET_RULE: &str = "1 to 64 characters of A-Z a-z 0-9 . _ -";
const NAMESPACE_RULE: &str = "1 to 255 characters of A-Z a-z 0-9 . - _ / # : and space; not only spaces, \
                              and not beginning with AWS/ or a colon";

/// All settings of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The groups are in the order in which they are first named. There may be none if there is a fleet.
    pub target_groups: Vec<TargetGroupConfig>,
    /// The value of the tag by which more groups are found.
    pub fleet: Option<String>,
    /// How a group follows its endpoints, unless it has a tag that says otherwise.
    pub settings: Settings,
    /// All of these servers are asked at once. An empty list means the system resolver.
    pub dns_servers: Vec<SocketAddr>,
    /// The time from the start of one reconcile to the next, in a scheduled invocation that polls.
    pub poll_interval: Duration,
    /// How long a scheduled invocation polls. Zero means one reconcile.
    pub schedule_poll: Duration,
    /// How long an invocation polls if a notification caused it. Zero means one reconcile.
    pub event_poll: Duration,
    /// An answer with an address outside these ranges is refused.
    pub allowed_cidrs: Vec<IpNet>,
    /// Targets in these ranges belong to somebody else and are never deregistered.
    pub keep_cidrs: Vec<IpNet>,
    pub metric_namespace: String,
    /// If true, every invocation only plans and reports, whatever its event says.
    pub is_dry_run: bool,
    /// What a diagnosis compares. Nothing else needs it, so a value that says nothing is no error.
    pub alarms: Alarms,
}

/// The stack's schedule, and the span in which its alarms expect three bad minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alarms {
    /// The time between two scheduled invocations. `None` for a cron expression.
    pub interval: Option<Duration>,
    /// `None` if the stack has no alarms.
    pub span: Option<Duration>,
}

/// A target group, the endpoints that feed it, and how it follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroupConfig {
    pub arn: TargetGroupArn,
    pub endpoints: Vec<Endpoint>,
    pub settings: Settings,
    /// A list named the group. Such a list may name a group that was deleted, which is no failure.
    pub is_listed: bool,
}

/// How a target group follows its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The port that is registered for every address. `None` means the group's own port.
    pub port: Option<u16>,
    /// The number of lookups of each endpoint in a reconcile. Their answers are united.
    pub lookups: u32,
    /// How many independent answers in a row may lack a current target before one more of them deregisters it.
    pub misses: u32,
}

impl Config {
    /// Reads the variables through `lookup`, in the order in which they are documented.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for the first variable that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Config, Error> {
        let variable = |name| Variable::look_up(name, &lookup);
        let number = |name, default, range| variable(name).or(default).number("a number", range);
        let seconds = |name, default, range| {
            let seconds = variable(name).or(default).number("seconds", range)?;
            Ok(Duration::from_secs(seconds.into()))
        };
        let has_fleet = lookup("FLEET").is_some_and(|fleet| !fleet.is_empty());
        let endpoints = variable("ENDPOINTS").required_unless(
            has_fleet,
            "comma-separated host names",
            list(Endpoint::parse),
        )?;
        let arns = variable("TARGET_GROUP_ARNS").required_unless(
            has_fleet,
            "comma-separated ARNs of target groups, one for each of ENDPOINTS",
            list(TargetGroupArn::parse),
        )?;
        let (endpoints, arns) = (endpoints.unwrap_or_default(), arns.unwrap_or_default());
        let region = lookup("AWS_REGION").filter(|region| !region.is_empty());
        if let Some(region) = &region
            && let Some(elsewhere) = arns.iter().find(|arn| arn.region() != region)
        {
            let arns = variable("TARGET_GROUP_ARNS");
            return Err(Error::InvalidConfig(format!(
                "{arns}: expected target groups of the function's Region {region}, not of {}",
                elsewhere.region()
            )));
        }
        let pairs = pair(endpoints, arns).map_err(|expected| {
            let (endpoints, arns) = (variable("ENDPOINTS"), variable("TARGET_GROUP_ARNS"));
            Error::InvalidConfig(format!("{endpoints} and {arns}: expected {expected}"))
        })?;
        let fleet = variable("FLEET").optional(FLEET_RULE, fleet)?;
        let port = variable("TARGET_PORT").optional(PORT_RULE, port)?;
        let dns_servers = variable("DNS_SERVERS").optional(
            "comma-separated addresses such as 10.0.0.2, 10.0.0.2:53, fd00::2 or [fd00::2]:53",
            list(dns_server),
        )?;
        let settings = Settings {
            port,
            lookups: number("LOOKUPS_PER_RECONCILE", "1", LOOKUPS)?,
            misses: number("MISSES_BEFORE_DEREGISTRATION", "0", MISSES)?,
        };
        let group = |(arn, endpoints)| TargetGroupConfig {
            arn,
            endpoints,
            settings,
            is_listed: false,
        };
        Ok(Config {
            target_groups: pairs.into_iter().map(group).collect(),
            fleet,
            settings,
            dns_servers: dns_servers.unwrap_or_default(),
            poll_interval: seconds("POLL_INTERVAL_SECONDS", "5", 1..=60)?,
            schedule_poll: seconds("SCHEDULE_POLL_SECONDS", "0", 0..=55)?,
            event_poll: seconds("EVENT_POLL_SECONDS", "50", 0..=55)?,
            allowed_cidrs: match has_fleet {
                true => variable("ALLOWED_CIDRS").required(FLEETS_CIDRS, list(cidr))?,
                false => variable("ALLOWED_CIDRS")
                    .or(DEFAULT_ALLOWED_CIDRS)
                    .required(CIDRS, list(cidr))?,
            },
            keep_cidrs: variable("KEEP_CIDRS")
                .optional(CIDRS, list(cidr))?
                .unwrap_or_default(),
            metric_namespace: variable("METRIC_NAMESPACE")
                .or(DEFAULT_METRIC_NAMESPACE)
                .required(NAMESPACE_RULE, namespace)?,
            is_dry_run: variable("DRY_RUN")
                .or("false")
                .required("true or false", boolean)?,
            alarms: Alarms {
                interval: lookup("SCHEDULE_EXPRESSION").as_deref().and_then(rate),
                span: lookup("ALARM_MINUTES").as_deref().and_then(minutes),
            },
        })
    }

    /// Returns why an answer with this address is refused, or `None` if it is not. An address that cannot be
    /// right makes the whole answer wrong or hostile.
    pub fn reason_to_refuse(&self, address: IpAddr) -> Option<&'static str> {
        let is_in = |cidrs: &[IpNet]| cidrs.iter().any(|cidr| cidr.contains(&address));
        if !is_in(&self.allowed_cidrs) {
            return Some("outside ALLOWED_CIDRS");
        }
        self.is_kept(address).then_some("inside KEEP_CIDRS")
    }

    /// True if a target at this address belongs to somebody else.
    pub fn is_kept(&self, address: IpAddr) -> bool {
        self.keep_cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    /// Reads `URL_SUFFIX`, under which CloudFormation's answer may be put. It is no part of the configuration:
    /// CloudFormation is answered even if another variable is invalid, and nothing else needs it. The SAM CLI sets
    /// it to `localhost` in `sam local invoke`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] when it is malformed.
    pub fn url_suffix(lookup: impl Fn(&str) -> Option<String>) -> Result<String, Error> {
        Variable::look_up("URL_SUFFIX", lookup)
            .or(DEFAULT_URL_SUFFIX)
            .required("a domain such as amazonaws.com", domain)
    }
}

/// Pairs each endpoint with the target group at the same place. A group keeps the place where it is first named.
fn pair(
    endpoints: Vec<Endpoint>,
    arns: Vec<TargetGroupArn>,
) -> Result<Vec<(TargetGroupArn, Vec<Endpoint>)>, &'static str> {
    if endpoints.len() != arns.len() {
        return Err("lists of the same length");
    }
    let mut seen = HashSet::new();
    let mut pairs: Vec<(TargetGroupArn, Vec<Endpoint>)> = Vec::new();
    for (endpoint, arn) in endpoints.into_iter().zip(arns) {
        if !seen.insert((endpoint.clone(), arn.clone())) {
            return Err("each pair of endpoint and target group only once");
        }
        match pairs.iter_mut().find(|(known, _)| *known == arn) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => pairs.push((arn, vec![endpoint])),
        }
    }
    Ok(pairs)
}
