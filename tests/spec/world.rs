//! The real binary in a sandbox, between the stand-ins. Fixtures are adjectives: an `initial` world
//! has an empty group.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stand_in::aws::{Aws, Call};
use stand_in::dns::{Answer as DnsAnswer, Zone};
use stand_in::elb::TargetGroup;
use stand_in::lambda::{Answer, Sandbox};
use stand_in::{dns, http};

pub const ENDPOINT: &str = "master.redis.example.com";
pub const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/redis/0123456789abcdef";
pub const OTHER_ENDPOINT: &str = "other.redis.example.com";
pub const OTHER_ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/other/fedcba9876543210";

/// Lambda's `Timeout` in the template.
const TIMEOUT: Duration = Duration::from_secs(75);

pub struct World {
    pub zone: Zone,
    pub aws: Aws,
    pub variables: BTreeMap<String, String>,
    _dns: dns::Server,
    _http: http::Server,
}

impl World {
    /// One endpoint that is not set yet, one empty target group at port 6379.
    pub async fn new() -> World {
        let (zone, aws) = (Zone::default(), Aws::default());
        let (dns, http) = (dns::Server::start(&zone).await, aws.serve().await);
        aws.add(TargetGroup::ipv4(ARN, 6379));
        let variables = [
            ("ENDPOINTS", ENDPOINT.to_owned()),
            ("TARGET_GROUP_ARNS", ARN.to_owned()),
            ("DNS_SERVERS", dns.address.to_string()),
            ("AWS_ENDPOINT_URL", format!("http://{}", http.address)),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        World {
            zone,
            aws,
            variables: variables
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            _dns: dns,
            _http: http,
        }
    }

    /// The endpoint is at `address`, and so is the group's one healthy target.
    pub async fn settled(address: &str) -> World {
        let world = World::new().await;
        world.point(address);
        world.aws.register(ARN, address, 6379);
        world
    }

    /// Two endpoints, each with its own group.
    pub async fn with_two_groups() -> World {
        let mut world = World::settled("10.0.1.7").await;
        world.aws.add(TargetGroup::ipv4(OTHER_ARN, 6380));
        world.zone.set(OTHER_ENDPOINT, dns::addresses(["10.0.3.3"]));
        world.set("ENDPOINTS", &format!("{ENDPOINT},{OTHER_ENDPOINT}"));
        world.set("TARGET_GROUP_ARNS", &format!("{ARN},{OTHER_ARN}"));
        world
    }

    /// The one endpoint, at 10.0.1.7, feeds so many groups, which are empty.
    pub async fn with_groups(count: u64) -> World {
        let mut world = World::new().await;
        world.point("10.0.1.7");
        let arns: Vec<_> = (0..count).map(group_arn).collect();
        for arn in &arns {
            world.aws.add(TargetGroup::ipv4(arn, 6379));
        }
        world.set("ENDPOINTS", &vec![ENDPOINT; arns.len()].join(","));
        world.set("TARGET_GROUP_ARNS", &arns.join(","));
        world
    }

    /// The endpoint moves.
    pub fn point(&self, address: &str) {
        self.zone.set(ENDPOINT, dns::addresses([address]));
    }

    pub fn answer(&self, answer: DnsAnswer) {
        self.zone.set(ENDPOINT, answer);
    }

    pub fn set(&mut self, variable: &str, value: &str) {
        self.variables.insert(variable.to_owned(), value.to_owned());
    }

    /// A cold sandbox.
    pub async fn sandbox(&self) -> Sandbox {
        let variables = self.variables.clone().into_iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| (name, value.into()))
            .collect();
        Sandbox::start(&binary(), &variables).await
    }

    /// A sandbox that knows the group already.
    pub async fn warm_sandbox(&self) -> Sandbox {
        let mut sandbox = self.sandbox().await;
        tick(&mut sandbox).await;
        self.aws.take_calls();
        self.aws.take_data();
        self.zone.take_asked();
        sandbox
    }

    /// One scheduled invocation in a cold sandbox.
    pub async fn run(&self) -> Answer {
        tick(&mut self.sandbox().await).await
    }

    /// The group as `address:port state`.
    pub fn group(&self) -> Vec<String> {
        self.aws.summary(ARN)
    }

    /// The names of all calls since the last time.
    pub fn actions(&self) -> Vec<String> {
        actions(&self.aws.take_calls())
    }

    /// All calls that change a group since the last time: action, targets with zone, outcome.
    pub fn changes(&self) -> Vec<String> {
        let is_change =
            |call: &&Call| ["RegisterTargets", "DeregisterTargets"].contains(&call.action.as_str());
        self.aws
            .take_calls()
            .iter()
            .filter(is_change)
            .map(change)
            .collect()
    }

    /// All metric data since the last time, as `dimension=value metric sum`.
    pub fn data(&self) -> Vec<String> {
        let line = |datum: stand_in::cloudwatch::Datum| {
            let dimensions: Vec<_> = datum
                .dimensions
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!(
                "{} {} {}",
                dimensions.join(","),
                datum.metric,
                datum.samples.iter().sum::<f64>()
            )
        };
        self.aws.take_data().into_iter().map(line).collect()
    }
}

/// Of the groups of [`World::with_groups`].
pub fn group_arn(index: u64) -> String {
    format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/g/{index:016x}")
}

fn change(call: &Call) -> String {
    let target = |target: &stand_in::elb::TargetDescription| {
        let port = target
            .port
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let zone = target
            .zone
            .as_ref()
            .map(|zone| format!("@{zone}"))
            .unwrap_or_default();
        format!("{}{port}{zone}", target.id)
    };
    let targets: Vec<_> = call.targets.iter().map(target).collect();
    format!("{} {} {}", call.action, targets.join(","), call.outcome)
}

pub fn actions(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| call.action.clone()).collect()
}

/// One scheduled invocation.
pub async fn tick(sandbox: &mut Sandbox) -> Answer {
    sandbox
        .invoke(
            r#"{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}"#,
            TIMEOUT,
        )
        .await
}

/// The error's type and message.
pub fn error(answer: &Answer) -> (String, String) {
    let error = answer
        .outcome
        .as_ref()
        .expect_err("an invocation that failed");
    let text = |name: &str| error[name].as_str().expect("a text");
    (
        text("errorType").to_owned(),
        what_failed(text("errorMessage")),
    )
}

/// An error's message without what it means for the clients and what comes next, which stands in
/// parentheses behind each failure.
///
/// # Panics
/// When a failure does not say that, unless it is about the configuration.
pub fn what_failed(message: &str) -> String {
    let failure = |failure: &str| {
        let (what, meaning) = failure.rsplit_once(" (").unwrap_or((failure, ""));
        let says = |word| meaning.contains(word) && meaning.ends_with(')');
        if ["clients", "targets", "invocation", "deployment"]
            .into_iter()
            .any(says)
        {
            return what.to_owned();
        }
        let is_of_configuration = failure.contains("expected") || failure.starts_with("and ");
        assert!(is_of_configuration, "what does it mean? {failure:?}");
        failure.to_owned()
    };
    // A meaning may have a semicolon of its own, so a failure ends with its parenthesis.
    let failures = message.split_inclusive("); ");
    let failures = failures.map(|one| failure(one.strip_suffix("; ").unwrap_or(one)));
    failures.collect::<Vec<_>>().join("; ")
}

/// The result of the first group.
pub fn result(answer: &Answer) -> &Value {
    &answer
        .outcome
        .as_ref()
        .expect("an invocation that succeeded")["targetGroups"][0]
}

/// The lines of the log whose message begins so; each line is JSON.
pub fn lines(sandbox: &Sandbox, message: &str) -> Vec<Value> {
    let lines = sandbox.log();
    let lines = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let is_one = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with(message))
    };
    lines.filter(is_one).collect()
}

/// The one that `make test` built for release, else cargo's.
pub fn binary() -> PathBuf {
    let built = std::env::var_os("FUNCTION_BINARY");
    built.map_or_else(
        || env!("CARGO_BIN_EXE_nlb-hostname-target").into(),
        PathBuf::from,
    )
}
