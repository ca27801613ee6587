//! Elastic Load Balancing, CloudWatch, the list of tags and CloudFormation's bucket for answers behind one address: their
//! state, the injected faults and a log of all calls. [`Aws`] maps a request to a reply and its delay. Other modules carry both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::bucket::Buckets;
use crate::cloudwatch::{Datum, Metrics};
use crate::elb::{REGISTRATION_LAG, Refusal, TargetDescription, TargetGroup, TargetHealth};
use crate::http::{Request, Response, Server};
use crate::memory::{WallClock, Way};
use crate::tagging::{self, Tags};
use crate::wire::{self, XmlResult};

/// A call as it arrived and as it was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub at: Instant,
    pub action: String,
    /// The ARN of the target group, the namespace, or the token of a page. Commas separate several ARNs.
    pub resource: String,
    pub targets: Vec<TargetDescription>,
    /// The metric data of a `PutMetricData`.
    pub data: Vec<Datum>,
    /// `Ok`, an error's code, or a few words about what else happened.
    pub outcome: String,
}

impl Call {
    /// Returns true if the service itself answered that the call took effect. Any other answer with status 2xx does not
    /// acknowledge the call.
    pub fn is_success(&self) -> bool {
        self.outcome == "Ok"
    }

    pub fn is_change(&self) -> bool {
        ["RegisterTargets", "DeregisterTargets"].contains(&self.action.as_str())
    }
}

/// Shows the action, the targets and the outcome.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets: Vec<_> = self.targets.iter().map(ToString::to_string).collect();
        write!(f, "{} {} {}", self.action, targets.join(","), self.outcome)
    }
}

/// A way in which a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The service refuses the call with this HTTP status, code and message. Nothing takes effect.
    Error(u16, &'static str, &'static str),
    /// The answer has this status and this text, and does not follow the protocol.
    Garbage(u16, &'static str),
    /// The answer is this one, whatever was asked. Nothing takes effect.
    Raw(StatusCode, HeaderMap, Bytes),
    /// The call takes effect, and the answer is late.
    Latency(Duration),
    /// The call does not take effect, and is never answered.
    Hang,
    /// The connection is closed before the call takes effect.
    Reset,
    /// The call takes effect, and then the connection is closed without an answer.
    LostAnswer,
}

#[derive(Debug, Clone)]
struct Injection {
    /// `None` means every action.
    action: Option<String>,
    /// `None` means every resource.
    resource: Option<String>,
    fault: Fault,
    extent: Extent,
}

/// The number of calls that go wrong, among those that an injection is about.
#[derive(Debug, Clone, Copy)]
enum Extent {
    /// The next calls go wrong, as many as this number, which is at least one.
    Next(u32),
    All,
    /// Each call goes wrong with this probability.
    Share(f64),
}

#[derive(Debug, Default)]
struct State {
    target_groups: BTreeMap<String, TargetGroup>,
    /// The tags by ARN, as the Resource Groups Tagging API lists them. It may list groups that are gone.
    tags: BTreeMap<String, Tags>,
    metrics: Metrics,
    /// CloudWatch's clock. `None` means the machine's clock.
    clock: Option<WallClock>,
    faults: Vec<Injection>,
    random: fastrand::Rng,
    latency: Duration,
    /// If there are no buckets, no call is throttled.
    buckets: Option<Buckets>,
    calls: Vec<Call>,
    answers: Vec<Answer>,
}

/// An answer of a custom resource to CloudFormation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The URL that the answer was put to, as it arrived.
    pub url: String,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// All clones share one state, for those who call the services and those who watch them.
#[derive(Debug, Clone, Default)]
pub struct Aws(Arc<Mutex<State>>);

/// An instruction to the transport.
#[derive(Debug)]
pub enum Reply {
    After(Duration, Response),
    Never,
    Reset,
}

impl Aws {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the state was locked")
    }

    pub fn add(&self, group: TargetGroup) {
        self.state().target_groups.insert(group.arn.clone(), group);
    }

    /// Deletes a target group, as somebody else would.
    pub fn remove(&self, arn: &str) {
        self.state().target_groups.remove(arn);
    }

    pub fn has(&self, arn: &str) -> bool {
        self.state().target_groups.contains_key(arn)
    }

    /// Gives a target group these tags in the place of those that it has.
    pub fn tag<'a>(&self, arn: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let tags = tags.into_iter();
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.state().tags.insert(arn.to_owned(), tags.collect());
    }

    pub fn tags(&self, arn: &str) -> Tags {
        self.state().tags.get(arn).cloned().unwrap_or_default()
    }

    /// Takes all tags of a target group away.
    pub fn untag(&self, arn: &str) {
        self.state().tags.remove(arn);
    }

    /// Changes a target group behind the function's back.
    pub fn target_group<T>(&self, arn: &str, change: impl FnOnce(&mut TargetGroup) -> T) -> T {
        change(
            self.state()
                .target_groups
                .get_mut(arn)
                .expect("a target group that was added"),
        )
    }

    pub fn targets(&self, arn: &str) -> Vec<TargetHealth> {
        self.target_group(arn, |group| group.describe(Instant::now()))
    }

    /// Returns the targets as `address:port state`, sorted.
    pub fn summary(&self, arn: &str) -> Vec<String> {
        let line = |target: &TargetHealth| {
            let socket = std::net::SocketAddr::new(target.address, target.port);
            format!("{socket} {}", target.state)
        };
        self.targets(arn).iter().map(line).collect()
    }

    /// Registers a target as somebody else would, so no call is logged.
    pub fn register(&self, arn: &str, address: &str, port: u16) {
        self.register_at(Instant::now(), arn, TargetDescription::new(address, port));
    }

    /// Registers a target in the same way, but so long ago that it is healthy.
    pub fn settle(&self, arn: &str, address: &str, port: u16) {
        let long_ago = Instant::now() - REGISTRATION_LAG;
        self.register_at(long_ago, arn, TargetDescription::new(address, port));
    }

    pub fn register_at(&self, at: Instant, arn: &str, target: TargetDescription) {
        let registered = self.target_group(arn, |group| group.register(at, &[target]));
        registered.expect("a target that can be registered");
    }

    /// Deregisters a target as somebody else would.
    pub fn deregister(&self, arn: &str, address: &str, port: u16) {
        let target = TargetDescription::new(address, port);
        self.target_group(arn, |group| group.deregister(Instant::now(), &[target]));
    }

    /// Makes the next call of this action go wrong.
    pub fn inject(&self, action: &str, fault: Fault) {
        self.inject_where(action, None, fault, Some(1));
    }

    /// Makes every call of this action go wrong, until [`Aws::heal`].
    pub fn inject_always(&self, action: &str, fault: Fault) {
        self.inject_where(action, None, fault, None);
    }

    /// Makes the next `times` calls of this action for this target group or namespace go wrong. `None` means every
    /// call, or every resource.
    pub fn inject_where(
        &self,
        action: &str,
        resource: Option<&str>,
        fault: Fault,
        times: Option<u32>,
    ) {
        self.state().faults.push(Injection {
            action: Some(action.to_owned()),
            resource: resource.map(str::to_owned),
            fault,
            extent: times.map_or(Extent::All, Extent::Next),
        });
    }

    /// Makes a share of the calls go wrong, at random. It is the share of those that no earlier injection spoils.
    pub fn inject_share(&self, share: f64, fault: Fault) {
        self.state().faults.push(Injection {
            action: None,
            resource: None,
            fault,
            extent: Extent::Share(share),
        });
    }

    /// Seeds what is random, so that the same seed gives the same results.
    pub fn set_seed(&self, seed: u64) {
        self.state().random = fastrand::Rng::with_seed(seed);
    }

    /// Sets the time of day that CloudWatch has.
    pub fn set_clock(&self, clock: WallClock) {
        self.state().clock = Some(clock);
    }

    /// Sets the time between a call and its answer. A fault may say otherwise.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Limits the calls to Elastic Load Balancing by its token buckets from now on. The buckets are full at first.
    /// `others` is the share of what is refilled that other tools of the account take, from 0 to 1. If it is 1, they
    /// have also taken what was in the buckets.
    pub fn limit(&self, others: f64) {
        let (now, buckets) = (Instant::now(), &mut self.state().buckets);
        buckets
            .get_or_insert_with(|| Buckets::full(now))
            .share(now, others);
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Returns the calls since it was last asked, and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// Returns the metric data since it was last asked, in the order in which they arrived, and forgets them.
    pub fn take_data(&self) -> Vec<Datum> {
        std::mem::take(&mut self.state().metrics.data)
    }

    /// Returns the answers to CloudFormation since it was last asked, and forgets them.
    pub fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.state().answers)
    }

    /// Serves on a free loopback port. The server ends when it is dropped.
    pub async fn serve(&self) -> Server {
        let aws = self.clone();
        Server::start(move |request| aws.clone().reply(request)).await
    }

    /// Serves in the same way over TLS. Also returns the certificate for `localhost` to trust, in PEM.
    pub async fn serve_tls(&self) -> (Server, String) {
        let aws = self.clone();
        Server::start_tls(move |request| aws.clone().reply(request)).await
    }

    async fn reply(self, request: Request) -> Option<Response> {
        self.carry(request).await
    }

    pub fn answer(&self, now: Instant, request: &Request) -> Reply {
        let call = Call::read(now, request);
        match (request.method(), operation(request)) {
            (&hyper::Method::PUT, _) => self.bucket(call, request),
            (_, Some("PutMetricData")) if !call.data.is_empty() => self.put_metric_data(call),
            (_, Some(operation)) => {
                let message = format!("not a {operation} that this stand-in understands");
                self.carry_out(call, CBOR, |_| {
                    Err(Refusal {
                        code: "SerializationException",
                        message,
                    })
                })
            }
            (_, None) if call.action == "GetResources" => {
                let body = request.body().clone();
                self.carry_out(call, JSON, |state| tagging::resources(&state.tags, &body))
            }
            (_, None) if request.headers().contains_key(TARGET) => {
                self.carry_out(call, JSON, |_| Ok(b"{}".to_vec()))
            }
            (_, None) => self.load_balancing(call),
        }
    }

    fn bucket(&self, call: Call, request: &Request) -> Reply {
        let content_type = request.headers().get("content-type");
        let answer = Answer {
            url: call.resource.clone(),
            content_type: content_type
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into()),
            body: request.body().clone(),
        };
        self.carry_out(call, XML, |state| {
            state.answers.push(answer);
            Ok(Vec::new())
        })
    }

    fn load_balancing(&self, call: Call) -> Reply {
        let (now, action, arn) = (call.at, call.action.clone(), call.resource.clone());
        let targets = call.targets.clone();
        self.carry_out(call, XML, |state| {
            if let Some(buckets) = &mut state.buckets {
                buckets.take(now, &action)?;
            }
            let not_found = || Refusal {
                code: "TargetGroupNotFound",
                message: "One or more target groups not found".to_owned(),
            };
            if action == "DescribeTargetGroups" {
                let groups = arn.split(',').map(|arn| state.target_groups.get(arn));
                let groups = groups.collect::<Option<Vec<_>>>().ok_or_else(not_found)?;
                return Ok(wire::target_groups(&groups).document(&action).into());
            }
            if action.starts_with("DescribeLoadBalancer") {
                let mut groups = state.target_groups.values();
                let its =
                    |group: &TargetGroup| group.load_balancer.clone().filter(|it| it.arn == arn);
                let load_balancer = groups.find_map(its).ok_or_else(|| Refusal {
                    code: "LoadBalancerNotFound",
                    message: format!("Load balancer '{arn}' not found"),
                })?;
                let result = match action.as_str() {
                    "DescribeLoadBalancers" => wire::load_balancer(&load_balancer),
                    _ => wire::load_balancer_attributes(&load_balancer),
                };
                return Ok(result.document(&action).into());
            }
            let group = state.target_groups.get_mut(&arn).ok_or_else(not_found)?;
            let result = match action.as_str() {
                "DescribeTargetGroupAttributes" => wire::target_group_attributes(group),
                "DescribeTargetHealth" => wire::targets(&group.describe(now)),
                "RegisterTargets" => group.register(now, &targets).map(|()| XmlResult::empty())?,
                "DeregisterTargets" => {
                    group.deregister(now, &targets);
                    XmlResult::empty()
                }
                other => {
                    return Err(Refusal {
                        code: "InvalidAction",
                        message: format!("Could not find operation {other} for version 2015-12-01"),
                    });
                }
            };
            Ok(result.document(&action).into())
        })
    }

    fn put_metric_data(&self, call: Call) -> Reply {
        let (namespace, data) = (call.resource.clone(), call.data.clone());
        self.carry_out(call, CBOR, |state| {
            let clock = state.clock.as_ref();
            let now = clock.map_or_else(SystemTime::now, TimeSource::now);
            state.metrics.put(now, &namespace, data)?;
            Ok(Vec::new())
        })
    }

    /// Lets a call take effect, or go wrong as injected, and logs it.
    fn carry_out(
        &self,
        mut call: Call,
        protocol: Protocol,
        effect: impl FnOnce(&mut State) -> Result<Vec<u8>, Refusal>,
    ) -> Reply {
        let mut state = self.state();
        let fault = state.next_fault(&call);
        let take_effect = |state: &mut State| match effect(state) {
            Ok(body) => ("Ok".to_owned(), response(200, protocol.content_type, body)),
            Err(refusal) => (refusal.code.to_owned(), protocol.refuse(400, &refusal)),
        };
        let (outcome, reply) = match fault {
            None => {
                let (outcome, response) = take_effect(&mut state);
                (outcome, Reply::After(state.latency, response))
            }
            Some(Fault::Latency(delay)) => {
                let (outcome, response) = take_effect(&mut state);
                (outcome, Reply::After(delay, response))
            }
            Some(Fault::LostAnswer) => {
                let (outcome, _) = take_effect(&mut state);
                (format!("{outcome}, answer lost"), Reply::Reset)
            }
            Some(Fault::Error(status, code, message)) => {
                let message = message.to_owned();
                let response = protocol.refuse(status, &Refusal { code, message });
                (code.to_owned(), Reply::After(Duration::ZERO, response))
            }
            Some(Fault::Garbage(status, body)) => {
                let response = hyper::Response::builder()
                    .status(status)
                    .header("content-type", "text/html")
                    .body(Bytes::from(body));
                let response = response.expect("a valid response");
                ("garbage".to_owned(), Reply::After(Duration::ZERO, response))
            }
            Some(Fault::Raw(status, headers, body)) => {
                let mut response = Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                let outcome = format!("HTTP {}", status.as_u16());
                (outcome, Reply::After(Duration::ZERO, response))
            }
            Some(Fault::Hang) => ("hang".to_owned(), Reply::Never),
            Some(Fault::Reset) => ("reset".to_owned(), Reply::Reset),
        };
        call.outcome = outcome;
        state.calls.push(call);
        reply
    }
}

impl Call {
    /// Reads what a request asks for, before the call has an outcome.
    pub fn read(now: Instant, request: &Request) -> Self {
        let (action, resource, targets, data) = match operation(request) {
            _ if request.method() == hyper::Method::PUT => {
                let url = request.uri().to_string();
                ("PutObject".to_owned(), url, Vec::new(), Vec::new())
            }
            Some(operation) => {
                let encoding = request.headers().get("content-encoding");
                let is_compressed = encoding.is_some_and(|encoding| encoding == "gzip");
                let input = wire::metric_data(request.body(), is_compressed);
                let (namespace, data) = input.unwrap_or_default();
                (operation.to_owned(), namespace, Vec::new(), data)
            }
            None if request.headers().contains_key(TARGET) => {
                let target = String::from_utf8_lossy(request.headers()[TARGET].as_bytes());
                let action = target.rsplit('.').next().unwrap_or_default();
                let page = tagging::page(request.body());
                (action.to_owned(), page, Vec::new(), Vec::new())
            }
            None => {
                let query = wire::Query::read(request.body());
                let action = query.get("Action").unwrap_or("none");
                (action.to_owned(), query.arns(), query.targets(), Vec::new())
            }
        };
        Call {
            at: now,
            action,
            resource,
            targets,
            data,
            outcome: String::new(),
        }
    }
}

/// Returns the operation that the path names. CloudWatch's calls name one, and Elastic Load Balancing's do not.
fn operation(request: &Request) -> Option<&str> {
    let path = request.uri().path();
    path.strip_prefix("/service/GraniteServiceVersion20100801/operation/")
}

impl State {
    fn next_fault(&mut self, call: &Call) -> Option<Fault> {
        let random = &mut self.random;
        let mut hits = |injection: &Injection| {
            injection.is_about(call)
                && match injection.extent {
                    Extent::Next(_) | Extent::All => true,
                    Extent::Share(share) => random.f64() < share,
                }
        };
        let index = self.faults.iter().position(&mut hits)?;
        let injection = &mut self.faults[index];
        let fault = injection.fault.clone();
        match &mut injection.extent {
            Extent::Next(1) => drop(self.faults.remove(index)),
            Extent::Next(times) => *times -= 1,
            Extent::All | Extent::Share(_) => (),
        }
        Some(fault)
    }
}

impl Injection {
    fn is_about(&self, call: &Call) -> bool {
        let is_its = |injected: &Option<String>, of_call: &String| {
            injected.as_ref().is_none_or(|injected| injected == of_call)
        };
        let mut resources = call.resource.split(',').map(str::to_owned);
        is_its(&self.action, &call.action)
            && resources.any(|resource| is_its(&self.resource, &resource))
    }
}

#[derive(Clone, Copy)]
struct Protocol {
    content_type: &'static str,
    error_body: fn(u16, &Refusal) -> Vec<u8>,
}

const XML: Protocol = Protocol {
    content_type: "text/xml",
    error_body: |status, refusal| wire::xml_error(status, refusal).into(),
};
/// The protocol of the Resource Groups Tagging API, and CloudWatch's other protocol, which boto3 speaks. CloudWatch's
/// calls in it are accepted, and their content is ignored.
const JSON: Protocol = Protocol {
    content_type: "application/x-amz-json-1.0",
    error_body: |_, refusal| {
        let Refusal { code, message } = refusal;
        serde_json::json!({"__type": code, "message": message})
            .to_string()
            .into_bytes()
    },
};
const TARGET: &str = "x-amz-target";

const CBOR: Protocol = Protocol {
    content_type: "application/cbor",
    error_body: |_, refusal| wire::cbor_error(refusal),
};

impl Protocol {
    /// Writes a refusal. CloudWatch repeats the code of its earlier protocol in a header, except for a throttle.
    fn refuse(self, status: u16, refusal: &Refusal) -> Response {
        let mut response = response(
            status,
            self.content_type,
            (self.error_body)(status, refusal),
        );
        if self.content_type == CBOR.content_type && refusal.code != "Throttling" {
            let query_error = format!("{};Sender", refusal.code);
            let query_error = query_error.parse().expect("a code is ASCII");
            response
                .headers_mut()
                .insert("x-amzn-query-error", query_error);
        }
        response
    }
}

/// Makes a response. If it has no body, it has no content type either.
fn response(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    let mut response = hyper::Response::builder()
        .status(status)
        .header("x-amzn-requestid", wire::REQUEST_ID);
    if !body.is_empty() {
        response = response.header("content-type", content_type);
    }
    if content_type == CBOR.content_type {
        response = response.header("smithy-protocol", "rpc-v2-cbor");
    }
    response.body(Bytes::from(body)).expect("a valid response")
}
