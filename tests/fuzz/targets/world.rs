//! The real function with the real SDK and the real resolver, under virtual time, while its endpoint
//! moves from [`OLD`], the group's one target, to [`NEW`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use nlb_hostname_target::aws;
use nlb_hostname_target::error::Errors;
use nlb_hostname_target::event::{Cause, Event};
use nlb_hostname_target::function::Function;
use nlb_hostname_target::report::Report;
use stand_in::aws::Aws;
use stand_in::dns::{Source, Zone, addresses};
use stand_in::elb::TargetGroup;
use stand_in::memory::{Http, Network};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

pub const ENDPOINT: &str = "redis.example.com";
pub const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/redis/0123456789abcdef";
pub const OLD: &str = "10.0.1.7";
pub const NEW: &str = "10.0.2.9";
pub const DNS_SERVER: &str = "10.0.0.2:53";
/// Lambda's, in the template.
const TIMEOUT: Duration = Duration::from_secs(75);

/// Loaded once: it does not depend on the input.
static SDK: LazyLock<SdkConfig> = LazyLock::new(|| {
    let loader = aws::configure(aws_config::defaults(BehaviorVersion::latest()))
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::for_tests());
    runtime().block_on(loader.load())
});

/// Everything but what the input replaces is as it should be.
pub struct World {
    pub aws: Aws,
    function: Function<Network>,
}

/// Runs it under virtual time.
pub fn block_on(future: impl Future<Output = ()>) {
    LazyLock::force(&SDK);
    runtime().block_on(future);
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime")
}

impl World {
    /// Whose DNS server answers what is right, to IPv6 too.
    pub fn new() -> Self {
        let zone = Zone::default();
        zone.set(ENDPOINT, addresses([NEW, "2001:db8::9"]));
        World::that_asks((&zone).into())
    }

    pub fn that_asks(dns: Source) -> Self {
        let aws = Aws::default();
        aws.add(TargetGroup::ipv4(ARN, 6379));
        aws.register(ARN, OLD, 6379);
        let variables = [
            ("ENDPOINTS", ENDPOINT),
            ("TARGET_GROUP_ARNS", ARN),
            ("DNS_SERVERS", DNS_SERVER),
        ];
        let variable = |name: &str| {
            let set = variables.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        let sdk = SDK.to_builder().http_client(Http(aws.clone())).build();
        let server: SocketAddr = DNS_SERVER.parse().expect("an address");
        let function = Function::new(variable, &sdk, Network::new([(server, dns)]));
        World { aws, function }
    }

    /// One scheduled invocation, which ends by itself before Lambda ends it.
    pub async fn invoke(&self) -> Result<Report, Errors> {
        let event = Event {
            is_dry_run: false,
            cause: Cause::Schedule,
        };
        let timeout = Instant::now() + TIMEOUT;
        let outcome = self.function.invoke(&event, timeout, "fuzz").await;
        assert!(Instant::now() < timeout, "later than Lambda's timeout");
        outcome
    }

    /// The group as `address:port state`.
    pub fn group(&self) -> BTreeSet<String> {
        self.aws.summary(ARN).into_iter().collect()
    }
}
