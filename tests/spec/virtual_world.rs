//! The real handler with the real SDK and the real resolver in this process, between the stand-ins
//! in memory. Time is virtual: a minute takes no time, and an answer takes as long as is said here.
//! Of the wall clock only the timestamps of metrics are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use nlb_hostname_target::aws;
use nlb_hostname_target::error::Errors;
use nlb_hostname_target::event::Event;
use nlb_hostname_target::function::Function;
use nlb_hostname_target::plan::Target;
use nlb_hostname_target::report::{Report, TargetGroupReport};
use serde_json::value::RawValue;
use stand_in::aws::{Aws, Call};
use stand_in::dns::{Answer, Source, Zone};
use stand_in::elb::TargetGroup;
use stand_in::memory::{Http, Network, WallClock};
use tokio::time::{Instant, sleep};

use crate::world::{ARN, ENDPOINT, group_arn};

const DNS_SERVER: &str = "10.0.0.2:53";
/// Of DNS and of a call to AWS.
pub const DNS_LATENCY: Duration = Duration::from_millis(5);
pub const CALL_LATENCY: Duration = Duration::from_millis(40);
/// Until a registered target is health-checked.
pub const REGISTRATION_LAG: Duration = Duration::from_secs(90);

pub type VirtualFunction = Function<Network>;

pub struct VirtualWorld {
    pub zone: Zone,
    pub aws: Aws,
    pub variables: BTreeMap<String, String>,
    /// The time of day of all sandboxes.
    pub clock: WallClock,
    ttl: u32,
}

impl VirtualWorld {
    /// The endpoint, with that TTL in seconds, is at `address`, and so is the group's one target,
    /// healthy for long. The group is of the address's family.
    pub async fn settled(address: &str, ttl: u32) -> Self {
        let (zone, aws) = (Zone::default(), Aws::default());
        let mut group = TargetGroup::ipv4(ARN, 6379);
        group.is_ipv6 = address.contains(':');
        group.registration_lag = REGISTRATION_LAG;
        group.deregistration_delay = Duration::from_secs(60);
        aws.add(group);
        aws.register(ARN, address, 6379);
        zone.set_latency(DNS_LATENCY);
        aws.set_latency(CALL_LATENCY);
        sleep(REGISTRATION_LAG).await;
        let clock = WallClock::at(SystemTime::now());
        aws.set_clock(clock.clone());
        let variables = [
            ("ENDPOINTS", ENDPOINT),
            ("TARGET_GROUP_ARNS", ARN),
            ("DNS_SERVERS", DNS_SERVER),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let world = VirtualWorld {
            zone,
            aws,
            variables: variables.into(),
            clock,
            ttl,
        };
        world.point(address);
        world
    }

    /// The one endpoint feeds so many other groups, whose ARNs are returned; they are empty.
    pub fn feed(&mut self, count: u64) -> Vec<String> {
        let arns: Vec<_> = (0..count).map(group_arn).collect();
        for arn in &arns {
            self.aws.add(TargetGroup::ipv4(arn, 6379));
        }
        self.set("ENDPOINTS", vec![ENDPOINT; arns.len()].join(","));
        self.set("TARGET_GROUP_ARNS", arns.join(","));
        arns
    }

    pub fn set(&mut self, variable: &str, value: impl ToString) {
        self.variables
            .insert(variable.to_owned(), value.to_string());
    }

    /// The endpoint moves.
    pub fn point(&self, address: &str) {
        let addresses = vec![address.parse().unwrap()];
        let ttl = self.ttl;
        self.zone
            .set(ENDPOINT, Answer::Addresses { ttl, addresses });
    }

    /// A sandbox that asks the zone itself.
    pub async fn function(&self) -> VirtualFunction {
        self.function_that_asks(&self.zone).await
    }

    pub async fn function_that_asks(&self, source: impl Into<Source>) -> VirtualFunction {
        let variable = |name: &str| self.variables.get(name).cloned();
        let sdk = aws::configure(aws_config::defaults(BehaviorVersion::latest()))
            .http_client(Http(self.aws.clone()))
            .time_source(self.clock.clone())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::for_tests())
            .load()
            .await;
        let server: SocketAddr = DNS_SERVER.parse().unwrap();
        Function::new(variable, &sdk, Network::new([(server, source.into())]))
    }

    /// The group as `address:port state`.
    pub fn group(&self) -> Vec<String> {
        self.aws.summary(ARN)
    }

    /// When each call of this action arrived, in seconds since `begin`; forgets all calls.
    pub fn times(&self, begin: Instant, action: &str) -> Vec<f64> {
        let calls = self.aws.take_calls();
        let calls = calls.iter().filter(|call| call.action == action);
        calls.map(|call| (call.at - begin).as_secs_f64()).collect()
    }
}

/// One invocation with Lambda's timeout in the template.
pub async fn invoke(function: &VirtualFunction, event: &str) -> Result<Report, Errors> {
    invoke_within(function, event, Duration::from_secs(75)).await
}

pub async fn invoke_within(
    function: &VirtualFunction,
    event: &str,
    timeout: Duration,
) -> Result<Report, Errors> {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    let timeout = Instant::now() + timeout;
    function
        .invoke(&Event::read(&event), timeout, "nlb-hostname-target")
        .await
}

pub async fn tick(function: &VirtualFunction) -> Result<Report, Errors> {
    invoke(function, "{}").await
}

pub async fn notify(function: &VirtualFunction) -> Result<Report, Errors> {
    invoke(function, include_str!("../../events/notification.json")).await
}

/// The report of the first group of an invocation that succeeded.
pub fn first(outcome: Result<Report, Errors>) -> TargetGroupReport {
    outcome.expect("success").target_groups.swap_remove(0)
}

pub fn targets<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Vec<String> {
    targets.into_iter().map(Target::to_string).collect()
}

/// All that ELB acknowledged, one change a line.
pub fn changes(calls: &[Call]) -> Vec<String> {
    let changes = calls
        .iter()
        .filter(|call| call.outcome == "Ok" && !call.targets.is_empty());
    let change = |call: &Call| {
        let ids: Vec<_> = call
            .targets
            .iter()
            .map(|target| target.id.as_str())
            .collect();
        let verb = if call.action == "RegisterTargets" {
            '+'
        } else {
            '-'
        };
        format!("{verb}{}", ids.join(","))
    };
    changes.map(change).collect()
}
