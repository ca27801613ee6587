//! Carries what the sandboxes and the far ends send each other. This takes time, things go wrong on the way, and
//! everything that passes is written down. What was sent arrives even if its sender is gone.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use serde_json::Value;
use stand_in::aws::{Aws, Reply};
use stand_in::dns::{Cache, Source, Zone};
use stand_in::http::{Request, Response};
use stand_in::memory::{Network, Way};
use stand_in::world::DNS_SERVER;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::fault::{CallFault, DnsFault, Instead};
use crate::history::{Call, History, Life, Page, What};

/// The faults of the next calls or questions, and how often each one is still to come.
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

/// The source of all delays. It draws the same delays for the same sequence.
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

    /// Draws how late a DNS answer is. A quarter of the answers come just in time to be acted on.
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

impl Way for Wire {
    async fn carry(&self, request: Request) -> Option<Response> {
        let parsed = stand_in::aws::Call::read(Instant::now(), &request);
        let id = self.history.next_call();
        self.history.write(What::Called(Call {
            id,
            life: self.life,
            action: parsed.action.clone(),
            arn: parsed.resource,
            targets: parsed.targets,
        }));
        let (sender, receiver) = oneshot::channel();
        let wire = self.clone();
        tokio::spawn(async move {
            let reply = wire.there_and_back(id, &parsed.action, request).await;
            // The caller may be gone.
            let _ = sender.send(reply);
        });
        let response = match receiver.await {
            Ok(response) => response,
            Err(_) => std::future::pending().await,
        };
        if response.is_some() {
            self.history.write(What::Returned { call: id });
        }
        response
    }
}

impl Wire {
    /// Carries a request to AWS and the response back. Returns `None` if the connection was closed.
    async fn there_and_back(&self, id: u64, action: &str, request: Request) -> Option<Response> {
        let fault = self.faults.next(action);
        sleep(self.pace.milliseconds(CallFault::delay(fault))).await;
        let coin = || self.pace.milliseconds(0..2).is_zero();
        if let Some(fault) = fault.and_then(|fault| fault.injected(&coin)) {
            self.aws.inject(action, fault);
        }
        let reply = self.aws.answer(Instant::now(), &request);
        let call = self
            .aws
            .take_calls()
            .pop()
            .expect("the call that was just made");
        // The group may be deleted.
        let group = match self.aws.has(&call.resource) {
            true => self.aws.targets(&call.resource),
            false => Vec::new(),
        };
        let page = match &reply {
            Reply::After(_, response) if call.action == "GetResources" => page(response.body()),
            _ => None,
        };
        self.history.write(What::Arrived {
            call: id,
            outcome: call.outcome,
            fault,
            group,
            data: call.data,
            page,
        });
        sleep(self.pace.milliseconds(1..30)).await;
        match reply {
            Reply::After(_, response) => Some(response),
            Reply::Never => std::future::pending().await,
            Reply::Reset => None,
        }
    }
}

/// Reads a page of the fleet's list, unless it is something else.
fn page(body: &[u8]) -> Option<Page> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let tag = |tag: &Value| Some((text(&tag["Key"])?, text(&tag["Value"])?));
    let group = |mapping: &Value| {
        let tags = mapping["Tags"].as_array()?.iter().filter_map(tag);
        Some((text(&mapping["ResourceARN"])?, tags.collect()))
    };
    let mappings = body["ResourceTagMappingList"].as_array()?.iter();
    Some(Page {
        groups: mappings.filter_map(group).collect(),
        is_last: body["PaginationToken"] == "",
    })
}

/// The name server of a sandbox. It has caches of its own in front of the zone.
#[derive(Clone)]
pub struct NameServer {
    pub life: Life,
    pub caches: Vec<Cache>,
    pub zone: Zone,
    pub history: History,
    pub faults: Faults<DnsFault>,
    pub last: Arc<Mutex<Option<DnsFault>>>,
    /// The time at which a late answer comes. An answer to a question that is asked meanwhile does not come before it.
    pub late: Arc<Mutex<Option<Instant>>>,
    /// The addresses at which an endpoint can be.
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

    /// Returns how late an answer comes. A good answer does not come before a late one that was asked for earlier.
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

    /// Returns the fault of the next question. A question that is asked again over TCP because its answer was too long
    /// keeps its fault.
    fn fault(&self, is_tcp: bool) -> Option<DnsFault> {
        let mut last = self.last.lock().expect("no panic while it was locked");
        let too_long = last.filter(|fault| is_tcp && fault.is_too_long());
        *last = too_long.or_else(|| self.faults.next(&self.life.sandbox.to_string()));
        *last
    }

    fn source(&self, query: &[u8], fault: Option<DnsFault>) -> Source {
        let any = match self.caches.len() {
            1 => 0,
            several => self.pace.milliseconds(0..several as u64).as_millis() as usize,
        };
        let cache = Source::from(&self.caches[any]);
        let Some(fault) = fault else { return cache };
        let name = asked(query).unwrap_or_default();
        let pace = self.pace.clone();
        match fault.instead(&name) {
            Instead::Answer(answer) => {
                let zone = Zone::default();
                zone.set(&name, answer);
                Source::from(&zone)
            }
            Instead::Late => Source::Responder(Arc::new(move |query, is_tcp| {
                let (delay, answer) = cache.answer(query, is_tcp)?;
                Some((delay + pace.lateness(), answer))
            })),
            Instead::LateUpstream => {
                let upstream = self.zone.clone();
                Source::Responder(Arc::new(move |query, is_tcp| {
                    upstream.set_latency(pace.lateness());
                    let answer = cache.answer(query, is_tcp);
                    upstream.set_latency(Duration::ZERO);
                    answer
                }))
            }
        }
    }

    /// Writes down what came, with the addresses at which the endpoint can be. A wrong answer has no addresses.
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

/// Returns the name in lower case, without its trailing dot.
fn name_of(question: &Query) -> String {
    let name = question.name().to_ascii();
    name.trim_end_matches('.').to_lowercase()
}
