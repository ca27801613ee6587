//! The way between the sandboxes and the far ends: it takes its time, things go wrong on it, and all
//! that passes is written down. What was sent arrives also when the one who sent it is gone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use http::{HeaderMap, StatusCode};
use stand_in::aws::{Aws, Fault, Reply};
use stand_in::dns::{Answer, Cache, Forgery, Source, Zone};
use stand_in::memory::Network;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::history::{Call, History, Life, What};
use crate::sequence::{CallFault, DnsFault};

pub const DNS_SERVER: &str = "10.0.0.2:53";

/// What goes wrong with the next calls or questions, for as often as it says.
#[derive(Debug)]
pub struct Faults<F>(Arc<Mutex<Vec<(String, F, u32)>>>);

impl<F: Copy> Faults<F> {
    pub fn add(&self, whose: &str, fault: F, times: u32) {
        let mut faults = self.0.lock().expect("no panic while it was locked");
        faults.push((whose.to_owned(), fault, times));
    }

    pub fn heal(&self) {
        self.0.lock().expect("no panic while it was locked").clear();
    }

    fn next(&self, whose: &str) -> Option<F> {
        let mut faults = self.0.lock().expect("no panic while it was locked");
        let index = faults.iter().position(|(of, _, _)| of == whose)?;
        let (_, fault, times) = &mut faults[index];
        let (fault, is_last) = (*fault, *times == 1);
        *times -= 1;
        if is_last {
            faults.remove(index);
        }
        Some(fault)
    }
}

impl<F> Clone for Faults<F> {
    fn clone(&self) -> Self {
        Faults(self.0.clone())
    }
}

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Faults(Arc::default())
    }
}

/// How long things take, which comes out the same for the same sequence.
#[derive(Debug, Clone)]
pub struct Pace(Arc<Mutex<fastrand::Rng>>);

impl Pace {
    pub fn new(seed: u64) -> Self {
        Pace(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    fn milliseconds(&self, range: std::ops::Range<u64>) -> Duration {
        let mut random = self.0.lock().expect("no panic while it was locked");
        Duration::from_millis(random.u64(range))
    }

    /// Of a DNS answer; a quarter of them are as late as can just be acted on.
    fn lateness(&self) -> Duration {
        self.milliseconds(200..6500)
            .min(Duration::from_millis(4900))
    }
}

/// A sandbox's way to AWS.
#[derive(Clone)]
pub struct Wire {
    pub life: Life,
    pub aws: Aws,
    pub history: History,
    pub faults: Faults<CallFault>,
    pub pace: Pace,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire of {}", self.life)
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let attempt = attempt(&request);
        let request = request.try_into_http1x().expect("a valid request");
        let request =
            request.map(|body| Bytes::copy_from_slice(body.bytes().expect("a body in memory")));
        let parsed = stand_in::aws::Call::read(Instant::now(), &request);
        let id = self.history.next_call();
        self.history.write(What::Called(Call {
            id,
            life: self.life,
            action: parsed.action.clone(),
            arn: parsed.resource,
            targets: parsed.targets,
            attempt,
        }));
        let (sender, receiver) = oneshot::channel();
        let wire = self.clone();
        tokio::spawn(async move {
            let reply = wire.carry(id, &parsed.action, request).await;
            // The one who asked may be gone.
            let _ = sender.send(reply);
        });
        let history = self.history.clone();
        HttpConnectorFuture::new(async move {
            let response = match receiver.await {
                Ok(response) => response,
                Err(_) => std::future::pending().await,
            };
            if response.is_some() {
                history.write(What::Returned { call: id });
            }
            response.ok_or_else(|| {
                let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                ConnectorError::io(reset.into())
            })
        })
    }
}

impl Wire {
    /// There and back; `None` is a connection that was closed.
    async fn carry(
        &self,
        id: u64,
        action: &str,
        request: stand_in::http::Request,
    ) -> Option<HttpResponse> {
        let fault = self.faults.next(action);
        sleep(match fault {
            Some(CallFault::Slow) => self.pace.milliseconds(300..2400),
            _ => self.pace.milliseconds(1..30),
        })
        .await;
        if let Some(fault) = fault.and_then(|fault| self.injected(fault)) {
            self.aws.inject(action, fault);
        }
        let reply = self.aws.answer(Instant::now(), &request);
        let call = self
            .aws
            .take_calls()
            .pop()
            .expect("the call that was just made");
        let group = match call.action.as_str() {
            "PutMetricData" => Vec::new(),
            _ => self.aws.targets(&call.resource),
        };
        self.history.write(What::Arrived {
            call: id,
            outcome: call.outcome,
            fault,
            group,
            data: call.data,
        });
        sleep(self.pace.milliseconds(1..30)).await;
        match reply {
            Reply::After(_, response) => {
                let response = HttpResponse::try_from(response.map(SdkBody::from));
                Some(response.expect("a valid response"))
            }
            Reply::Never => std::future::pending().await,
            Reply::Reset => None,
        }
    }
}

/// `attempt=2; max=3`
fn attempt(request: &HttpRequest) -> u32 {
    let header = request.headers().get("amz-sdk-request").unwrap_or_default();
    let attempt = header.split("attempt=").nth(1).unwrap_or("1");
    let digits = attempt.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(1)
}

impl Wire {
    fn injected(&self, fault: CallFault) -> Option<Fault> {
        match fault {
            CallFault::Empty => {
                let is_even = self.pace.milliseconds(0..2).is_zero();
                let status = if is_even {
                    StatusCode::OK
                } else {
                    StatusCode::NO_CONTENT
                };
                Some(Fault::Raw(status, HeaderMap::new(), Bytes::new()))
            }
            CallFault::Throttled => Some(Fault::Error(400, "Throttling", "Rate exceeded")),
            CallFault::Unavailable => Some(Fault::Error(
                503,
                "ServiceUnavailable",
                "Service is unavailable",
            )),
            CallFault::Garbage => Some(Fault::Garbage(200, "<html>gateway</html>")),
            CallFault::Reset => Some(Fault::Reset),
            CallFault::Hang => Some(Fault::Hang),
            CallFault::LostAnswer => Some(Fault::LostAnswer),
            CallFault::Slow => None,
        }
    }
}

/// The name server of a sandbox: a cache of its own before the zone.
#[derive(Clone)]
pub struct NameServer {
    pub life: Life,
    pub cache: Cache,
    pub zone: Zone,
    pub history: History,
    pub faults: Faults<DnsFault>,
    pub last: Arc<Mutex<Option<DnsFault>>>,
    /// Until then it waits itself, and whoever asks again waits with it.
    pub late: Arc<Mutex<Option<Instant>>>,
    /// Where an endpoint can be.
    pub possible: Vec<IpAddr>,
    pub pace: Pace,
}

impl NameServer {
    pub fn network(self) -> Network {
        let server: SocketAddr = DNS_SERVER.parse().expect("an address");
        let watching = self.clone();
        let responder = move |query: &[u8], is_tcp: bool| {
            let (life, fault) = (self.life, self.fault(is_tcp));
            if let Ok(query) = Message::from_vec(query) {
                self.history.write(What::Asked {
                    life,
                    id: query.metadata.id,
                    name: query.queries.first().map_or_else(String::new, name_of),
                });
            }
            if let Some(fault) = fault {
                self.history.write(What::Disturbed { life, fault });
            }
            let delay = self.pace.milliseconds(1..20);
            let (late, bytes) = self.source(query, fault).answer(query, is_tcp)?;
            Some((delay + self.lateness(late), bytes))
        };
        Network::new([(server, Source::Responder(Arc::new(responder)))])
            .watched_by(move |answer| watching.write(answer))
    }

    /// Of an answer that is late by itself; a good one that is asked for meanwhile is not earlier.
    fn lateness(&self, late: Duration) -> Duration {
        let (now, mut until) = (
            Instant::now(),
            self.late.lock().expect("no panic while it was locked"),
        );
        if !late.is_zero() {
            *until = Some(now + late);
        }
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Of the next question; one that is asked again over TCP keeps an answer that was too long.
    fn fault(&self, is_tcp: bool) -> Option<DnsFault> {
        let mut last = self.last.lock().expect("no panic while it was locked");
        let too_long = last.filter(|fault| is_tcp && *fault == DnsFault::TooMany);
        *last = too_long.or_else(|| self.faults.next(&self.life.sandbox.to_string()));
        *last
    }

    fn source(&self, query: &[u8], fault: Option<DnsFault>) -> Source {
        let cache = Source::from(&self.cache);
        let Some(fault) = fault else { return cache };
        let zone = Zone::default();
        let name = asked(query).unwrap_or_default();
        zone.set(&name, answer(fault, &name));
        match fault {
            DnsFault::Late => {
                let pace = self.pace.clone();
                Source::Responder(Arc::new(move |query, is_tcp| {
                    let (delay, answer) = cache.answer(query, is_tcp)?;
                    Some((delay + pace.lateness(), answer))
                }))
            }
            DnsFault::LateUpstream => {
                let (upstream, pace) = (self.zone.clone(), self.pace.clone());
                Source::Responder(Arc::new(move |query, is_tcp| {
                    upstream.set_latency(pace.lateness());
                    let answer = cache.answer(query, is_tcp);
                    upstream.set_latency(Duration::ZERO);
                    answer
                }))
            }
            _ => Source::from(&zone),
        }
    }

    /// Writes down what came, with the addresses that the endpoint can be at: of a wrong answer none.
    fn write(&self, answer: &[u8]) {
        let Ok(message) = Message::from_vec(answer) else {
            return;
        };
        let Some(question) = message.queries.first() else {
            return;
        };
        let addresses = message.answers.iter();
        let addresses: Vec<_> = addresses
            .filter_map(|record| record.data.ip_addr())
            .collect();
        let is_good = message.metadata.response_code == ResponseCode::NoError
            && addresses
                .iter()
                .all(|address| self.possible.contains(address));
        let ttl = message.answers.iter().map(|record| record.ttl).max();
        self.history.write(What::Answered {
            life: self.life,
            id: message.metadata.id,
            name: name_of(question),
            addresses: if is_good { addresses } else { Vec::new() },
            ttl: Duration::from_secs(ttl.unwrap_or(0).into()),
        });
    }
}

fn asked(query: &[u8]) -> Option<String> {
    let query = Message::from_vec(query).ok()?;
    query.queries.first().map(name_of)
}

/// In lower case, without trailing dot.
fn name_of(question: &Query) -> String {
    let name = question.name().to_ascii();
    name.trim_end_matches('.').to_lowercase()
}

fn v6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 0, 0, 0, last.into())
}

fn answer(fault: DnsFault, name: &str) -> Answer {
    let records = |records: &[(&str, &str)]| {
        let record = |(name, address): &(&str, &str)| {
            (name.to_string(), address.parse().expect("an address"))
        };
        Answer::Records(ResponseCode::NoError, records.iter().map(record).collect())
    };
    let many = |count: u8| {
        let address = |last| [Ipv4Addr::new(10, 0, 9, last).into(), v6(last).into()];
        Answer::Addresses {
            ttl: 1,
            addresses: (0..count).flat_map(address).collect(),
        }
    };
    match fault {
        DnsFault::NxDomain => Answer::NxDomain,
        DnsFault::ServFail => Answer::ServFail,
        DnsFault::Refused => Answer::Refused,
        DnsFault::Empty => Answer::Empty,
        DnsFault::Silent | DnsFault::Late | DnsFault::LateUpstream => Answer::Silent,
        DnsFault::Truncated => Answer::Truncated(Box::new(Answer::ServFail)),
        DnsFault::WrongId => Answer::Forged(Forgery::Id, Box::new(records(&[(name, "10.0.66.6")]))),
        DnsFault::Garbage => Answer::Garbage,
        DnsFault::Forbidden => records(&[(name, "8.8.8.8"), (name, "fe80::8")]),
        DnsFault::PartlyForbidden => records(&[
            (name, "10.0.66.6"),
            (name, "169.254.169.254"),
            (name, "2001:db8::66"),
            (name, "fe80::1"),
        ]),
        DnsFault::AnotherName => records(&[
            ("evil.example.com", "10.0.66.6"),
            ("evil.example.com", "2001:db8::66"),
        ]),
        DnsFault::TooMany => many(101),
        DnsFault::CnameLoop => Answer::Cname {
            ttl: 1,
            target: name.to_owned(),
            is_split: false,
        },
    }
}
