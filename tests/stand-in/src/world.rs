//! The world of the function, made in one place for every kind of test: DNS, Elastic Load Balancing and CloudWatch, the
//! function's variables, and the function itself. Over sockets, the real binary runs as in Lambda. In memory, the real
//! handler runs with the real SDK and the real resolver in virtual time: a minute takes no time, and an answer takes as
//! long as the world says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use hickory_net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use nlb_hostname_target::diagnose::Findings;
use nlb_hostname_target::error::Errors;
use nlb_hostname_target::event::Event;
use nlb_hostname_target::report::{Output, Report};
use nlb_hostname_target::{aws, function, log};
use serde_json::value::RawValue;
use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::time::Instant;

use crate::aws::{Aws, Call};
use crate::dns::{self, Answer, Source, Zone};
pub use crate::elb::REGISTRATION_LAG;
use crate::elb::TargetGroup;
use crate::http;
use crate::lambda::{
    self, DIAGNOSE, FUNCTION_NAME, Memory, NOTIFICATION, Process, SCHEDULE, Sandbox, TIMEOUT,
};
use crate::memory::{Http, Network, WallClock, Way};

pub const ENDPOINT: &str = "redis.example.com";
pub const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/redis/0123456789abcdef";
pub const OTHER_ENDPOINT: &str = "other.example.com";
pub const OTHER_ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/other/fedcba9876543210";
/// The port of every target group.
pub const PORT: u16 = 6379;

/// The DNS server of a world in memory.
pub const DNS_SERVER: &str = "10.0.0.2:53";
/// The time since the epoch at which virtual time begins. It is always the same, so that what happens in one minute
/// does so each time.
pub const DAY: Duration = Duration::from_secs(20_000 * 86_400);
/// The time that DNS and a call to AWS take in a world that has latency.
pub const DNS_LATENCY: Duration = Duration::from_millis(5);
pub const CALL_LATENCY: Duration = Duration::from_millis(40);
/// The TTL in seconds, unless a test says otherwise.
const TTL: u32 = 1;

const REGION: &str = "eu-west-1";
/// The number of sandboxes that this process has made. Each of them gets a Region of its own.
static SANDBOXES: AtomicU64 = AtomicU64::new(0);

/// The SDK's configuration. It is loaded once, since it is the same for all worlds. It is loaded in a thread of its
/// own, since virtual time would not wait for it.
static SDK: LazyLock<SdkConfig> = LazyLock::new(|| {
    let loader = aws::configure(aws_config::defaults(BehaviorVersion::latest()))
        .region(Region::new(REGION))
        .credentials_provider(Credentials::for_tests());
    let runtime = Builder::new_current_thread().enable_time().build();
    let load = || runtime.expect("a runtime").block_on(loader.load());
    std::thread::scope(|scope| scope.spawn(load).join().expect("a configuration"))
});

/// Returns the SDK's configuration as the function has it, with this way to AWS.
pub fn sdk_over(way: impl Way) -> SdkConfig {
    SDK.to_builder().http_client(Http(way)).build()
}

/// Returns the ARN of one of many target groups.
pub fn group_arn(index: u64) -> String {
    format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/g/{index:016x}")
}

/// Returns the endpoint of one of many groups.
pub fn own_endpoint(index: usize) -> String {
    format!("{index}.redis.example.com")
}

/// Everything that the function talks to, and its variables.
pub struct World {
    pub zone: Zone,
    pub aws: Aws,
    pub variables: BTreeMap<String, String>,
    /// The time of day of CloudWatch, and of what runs in memory.
    pub clock: WallClock,
    /// The TTL of [`ENDPOINT`], in seconds.
    pub ttl: u32,
    servers: Option<(dns::Server, http::Server)>,
    /// The other DNS servers of a world in memory.
    other_servers: Vec<(SocketAddr, Source)>,
}

impl World {
    /// Makes a world in memory at that time of day, with one endpoint that is not set yet and one empty target group.
    pub fn in_memory(now: SystemTime) -> World {
        let (aws, clock) = (Aws::default(), WallClock::at(now));
        aws.set_clock(clock.clone());
        let mut world = World {
            zone: Zone::default(),
            aws,
            variables: BTreeMap::new(),
            clock,
            ttl: TTL,
            servers: None,
            other_servers: Vec::new(),
        };
        world.set("DNS_SERVERS", DNS_SERVER);
        world.follow([(ENDPOINT, ARN)]);
        world
    }

    /// Makes the same world over sockets.
    pub async fn empty() -> World {
        let mut world = World::in_memory(SystemTime::now());
        let dns = dns::Server::start(&world.zone).await;
        let http = world.aws.serve().await;
        world.set("DNS_SERVERS", dns.address);
        world.set("AWS_ENDPOINT_URL", format!("http://{}", http.address));
        world.set("AWS_REGION", REGION);
        world.set("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
        world.set("AWS_SECRET_ACCESS_KEY", "secret");
        world.servers = Some((dns, http));
        world
    }

    /// Makes a world over sockets, with the endpoint and the group's one healthy target at `address`.
    pub async fn settled(address: &str) -> World {
        let world = World::empty().await;
        world.settle(address);
        world
    }

    /// Makes a world in memory in which everything takes the time that it takes on AWS, with one endpoint that is not
    /// set yet and one empty target group.
    pub fn empty_in_memory() -> World {
        let world = World::in_memory(UNIX_EPOCH + DAY);
        world.zone.set_latency(DNS_LATENCY);
        world.aws.set_latency(CALL_LATENCY);
        world
    }

    /// Makes the same world with the endpoint at `address`, with this TTL in seconds. The group's one target is there
    /// too, and has long been healthy. The group is of the address's family.
    pub async fn settled_in_memory(address: &str, ttl: u32) -> World {
        let mut world = World::empty_in_memory();
        world.ttl = ttl;
        let is_ipv6 = address.contains(':');
        world.aws.target_group(ARN, |group| group.is_ipv6 = is_ipv6);
        world.settle(address);
        world
    }

    /// Makes the same world with two endpoints, each with its own group.
    pub async fn two_in_memory() -> World {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.add_other();
        world
    }

    /// Adds another endpoint with a group of its own, which is empty and has another port.
    pub fn add_other(&mut self) {
        self.aws.add(TargetGroup::ipv4(OTHER_ARN, PORT + 1));
        self.zone.set(OTHER_ENDPOINT, dns::addresses(["10.0.3.3"]));
        self.follow([(ENDPOINT, ARN), (OTHER_ENDPOINT, OTHER_ARN)]);
    }

    /// Lets each endpoint feed the group beside it. Groups that do not exist yet are created, and are empty.
    pub fn follow<E: ToString, A: ToString>(&mut self, pairs: impl IntoIterator<Item = (E, A)>) {
        let pairs = pairs.into_iter();
        let pairs = pairs.map(|(endpoint, arn)| (endpoint.to_string(), arn.to_string()));
        let (endpoints, arns): (Vec<_>, Vec<_>) = pairs.unzip();
        for arn in &arns {
            if !self.aws.has(arn) {
                self.aws.add(TargetGroup::ipv4(arn, PORT));
            }
        }
        self.set("ENDPOINTS", endpoints.join(","));
        self.set("TARGET_GROUP_ARNS", arns.join(","));
    }

    /// Lets the one endpoint feed this many other groups, which are empty. Returns their ARNs.
    pub fn feed(&mut self, count: u64) -> Vec<String> {
        let arns: Vec<_> = (0..count).map(group_arn).collect();
        self.follow(arns.iter().map(|arn| (ENDPOINT, arn)));
        arns
    }

    /// Makes this many other groups. Each has an endpoint of its own at `address`, where its one target has long been.
    /// Everything takes the time that it takes on AWS, and Elastic Load Balancing has its token buckets.
    pub fn settle_many(&mut self, groups: usize, address: &str) {
        self.zone.set_latency(DNS_LATENCY);
        self.aws.set_latency(CALL_LATENCY);
        self.follow((0..groups).map(|index| (own_endpoint(index), group_arn(index as u64))));
        for index in 0..groups {
            self.point_one(index, address);
            self.aws.settle(&group_arn(index as u64), address, PORT);
        }
        self.aws.limit(0.0);
    }

    /// Moves the endpoint of one of those groups.
    pub fn point_one(&self, index: usize, address: &str) {
        let addresses = vec![address.parse().expect("an address")];
        let ttl = self.ttl;
        let answer = Answer::Addresses { ttl, addresses };
        self.zone.set(&own_endpoint(index), answer);
    }

    /// Puts the endpoint at `address`, and the group's one target too, which has long been healthy.
    pub fn settle(&self, address: &str) {
        self.point(address);
        self.aws.settle(ARN, address, PORT);
    }

    /// Moves the endpoint.
    pub fn point(&self, address: &str) {
        let addresses = vec![address.parse().expect("an address")];
        let ttl = self.ttl;
        self.answer(Answer::Addresses { ttl, addresses });
    }

    /// Sets the answer for the endpoint.
    pub fn answer(&self, answer: Answer) {
        self.zone.set(ENDPOINT, answer);
    }

    pub fn set(&mut self, variable: &str, value: impl ToString) {
        self.variables
            .insert(variable.to_owned(), value.to_string());
    }

    /// Returns the group's targets as `address:port state`.
    pub fn group(&self) -> Vec<String> {
        self.aws.summary(ARN)
    }

    /// Returns the names of all calls since the last time.
    pub fn actions(&self) -> Vec<String> {
        let calls = self.aws.take_calls().into_iter();
        calls.map(|call| call.action).collect()
    }

    /// Returns all calls that changed a group since the last time, with the action, the targets with their zones, and
    /// the outcome.
    pub fn changes(&self) -> Vec<String> {
        let calls = self.aws.take_calls();
        let changes = calls.iter().filter(|call| call.is_change());
        changes.map(Call::to_string).collect()
    }

    /// Returns all metric data since the last time, as `dimension=value metric sum`.
    pub fn data(&self) -> Vec<String> {
        let data = self.aws.take_data().into_iter();
        data.map(|datum| datum.to_string()).collect()
    }

    /// Returns when each question for an address arrived, in seconds since `begin`. Forgets all questions.
    pub fn lookups(&self, begin: Instant) -> Vec<f64> {
        let asked = self.zone.take_asked().into_iter();
        asked.map(|one| (one.at - begin).as_secs_f64()).collect()
    }

    /// Returns when each call of this action arrived, in seconds since `begin`. Forgets all calls.
    pub fn times(&self, begin: Instant, action: &str) -> Vec<f64> {
        let calls = self.aws.take_calls();
        let calls = calls.iter().filter(|call| call.action == action);
        calls.map(|call| (call.at - begin).as_secs_f64()).collect()
    }
}

/// These functions make sandboxes, over sockets or in memory as the world is.
impl World {
    /// Makes a cold sandbox.
    pub async fn sandbox(&self) -> Sandbox {
        match self.servers {
            Some(_) => Sandbox::Process(Box::new(self.process().await)),
            None => self.sandbox_that_asks(&self.zone),
        }
    }

    /// Makes a sandbox that knows the group already.
    pub async fn warm_sandbox(&self) -> Sandbox {
        let mut sandbox = self.sandbox().await;
        sandbox.schedule().await;
        self.aws.take_calls();
        self.aws.take_data();
        self.zone.take_asked();
        sandbox
    }

    /// Invokes the function once in a cold sandbox, as the schedule does.
    pub async fn run(&self) -> lambda::Answer {
        self.sandbox().await.schedule().await
    }
}

/// These functions are for a world over sockets.
impl World {
    /// Starts the real binary in a cold sandbox.
    pub async fn process(&self) -> Process {
        self.process_of(Command::new(binary())).await
    }

    /// Starts any command in the same way.
    pub async fn process_of(&self, command: Command) -> Process {
        let variables = self.variables.iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| (name.clone(), value.into()))
            .collect();
        Process::start(command, &variables).await
    }

    /// Makes the handler in this process.
    pub fn function_over_sockets(&self) -> Function {
        let sdk = SDK.to_builder();
        let sdk = sdk.endpoint_url(&self.variables["AWS_ENDPOINT_URL"]);
        self.build(&sdk.build(), TokioRuntimeProvider::default())
    }
}

/// These functions are for a world in memory.
impl World {
    /// Adds another DNS server that is asked too. Returns it as the variable has it.
    pub fn ask_too(&mut self, source: impl Into<Source>) -> String {
        let last = 3 + self.other_servers.len();
        let server = SocketAddr::new(IpAddr::from([10, 0, 0, last as u8]), 53);
        self.other_servers.push((server, source.into()));
        let servers = format!("{},{server}", self.variables["DNS_SERVERS"]);
        self.set("DNS_SERVERS", servers);
        server.to_string()
    }

    /// Makes a sandbox with a log, whose handler asks this source.
    pub fn sandbox_that_asks(&self, source: impl Into<Source>) -> Sandbox {
        let sandbox = SANDBOXES.fetch_add(1, Ordering::Relaxed);
        let (way, region) = (self.aws.clone(), format!("{REGION}-{sandbox}"));
        let function = self.function_over(way, self.network(source.into()), region);
        let level = self.variables.get("AWS_LAMBDA_LOG_LEVEL");
        let level = log::level(level.map(String::as_str));
        Sandbox::Memory(Memory::new(function, level))
    }

    /// Makes a sandbox that asks the zone itself.
    pub fn function(&self) -> Function {
        self.function_that_asks(&self.zone)
    }

    pub fn function_that_asks(&self, source: impl Into<Source>) -> Function {
        let sdk = sdk_over(self.aws.clone());
        self.build_in_memory(&sdk, self.network(source.into()))
    }

    fn network(&self, source: Source) -> Network {
        let server: SocketAddr = DNS_SERVER.parse().expect("an address with a port");
        let others = self.other_servers.iter().cloned();
        Network::new(others.chain([(server, source)]))
    }

    /// Makes a sandbox with its own ways to AWS and to DNS. The SDK counts a process's retries by service and Region,
    /// so a sandbox with its own Region counts its own retries.
    pub fn function_over(&self, way: impl Way, network: Network, region: String) -> Function {
        let sdk = sdk_over(way).to_builder().region(Region::new(region));
        self.build_in_memory(&sdk.build(), network)
    }

    /// This is not generic, so that the handler is compiled here.
    fn build_in_memory(&self, sdk: &SdkConfig, network: Network) -> Function {
        self.build(sdk, network)
    }

    fn build<P: RuntimeProvider>(&self, sdk: &SdkConfig, network: P) -> Function {
        // Nothing is shared with another sandbox.
        let sdk = sdk
            .to_builder()
            .identity_cache(IdentityCache::lazy().build());
        let sdk = sdk.time_source(self.clock.clone()).build();
        let variable = |name: &str| self.variables.get(name).cloned();
        Function(Box::new(function::Function::new(variable, &sdk, network)))
    }
}

/// Returns the binary that the variable `FUNCTION_BINARY` names, or cargo's if it is not set.
///
/// # Panics
/// Panics if neither is known, as outside of cargo.
pub fn binary() -> PathBuf {
    let variables = ["FUNCTION_BINARY", "CARGO_BIN_EXE_nlb-hostname-target"];
    let mut binaries = variables.into_iter().filter_map(std::env::var_os);
    binaries.next().expect("cargo names the binary").into()
}

type Invocation<'a> = Pin<Box<dyn Future<Output = Result<Output, Errors>> + 'a>>;

/// The real handler, whatever its network is. It is compiled here, and not again in each binary that invokes it.
trait Handler {
    fn invoke<'a>(&'a self, event: &'a Event, timeout: Instant) -> Invocation<'a>;
}

impl<P: RuntimeProvider> Handler for function::Function<P> {
    fn invoke<'a>(&'a self, event: &'a Event, timeout: Instant) -> Invocation<'a> {
        Box::pin(self.invoke(event, timeout, FUNCTION_NAME))
    }
}

/// The real handler in one sandbox in this process.
pub struct Function(Box<dyn Handler>);

impl Function {
    pub async fn schedule(&self) -> Result<Report, Errors> {
        self.invoke(SCHEDULE).await
    }

    pub async fn notify(&self) -> Result<Report, Errors> {
        self.invoke(NOTIFICATION).await
    }

    /// Invokes it with the timeout that the template sets.
    pub async fn invoke(&self, event: &str) -> Result<Report, Errors> {
        self.invoke_within(event, TIMEOUT).await
    }

    /// Invokes the function with this timeout.
    ///
    /// # Panics
    /// Panics if it does not end by itself before the timeout, or if it diagnoses.
    pub async fn invoke_within(&self, event: &str, timeout: Duration) -> Result<Report, Errors> {
        report(self.output(event, timeout).await)
    }

    /// Invokes the function when Lambda's timeout has come already.
    ///
    /// # Panics
    /// Panics if it diagnoses.
    pub async fn invoke_too_late(&self, event: &str) -> Result<Report, Errors> {
        report(self.output_by(event, Instant::now()).await)
    }

    /// Lets the function diagnose.
    ///
    /// # Panics
    /// Panics if it does not end by itself before the timeout, or does not diagnose.
    pub async fn diagnose(&self) -> Findings {
        match self.output(DIAGNOSE, TIMEOUT).await {
            Ok(Output::Findings(findings)) => findings,
            other => panic!("{other:?}"),
        }
    }

    /// Returns what the function answers to this event.
    ///
    /// # Panics
    /// Panics if it does not end by itself before the timeout.
    pub async fn output(&self, event: &str, timeout: Duration) -> Result<Output, Errors> {
        let timeout = Instant::now() + timeout;
        let outcome = self.output_by(event, timeout).await;
        assert!(Instant::now() < timeout, "it ended after Lambda's timeout");
        outcome
    }

    async fn output_by(&self, event: &str, timeout: Instant) -> Result<Output, Errors> {
        let event = RawValue::from_string(event.to_owned()).expect("an event in JSON");
        self.0.invoke(&Event::read(&event), timeout).await
    }
}

fn report(output: Result<Output, Errors>) -> Result<Report, Errors> {
    output.map(|output| match output {
        Output::Report(report) => report,
        Output::Findings(findings) => panic!("{findings:?}"),
    })
}
