//! A DNS server on loopback, over UDP and TCP, whose answers change at run time. [`Zone`] maps a
//! query to an answer. The sockets are below it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use hickory_proto::op::ResponseCode;
use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

const DEFAULT_TTL: u32 = 1;

/// An answer to a question about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the family that was asked for. If there are none, the answer is empty.
    Addresses {
        ttl: u32,
        addresses: Vec<IpAddr>,
    },
    /// One of these addresses at random, if it is of the family that was asked for.
    OneOf {
        ttl: u32,
        addresses: Vec<IpAddr>,
    },
    /// The zone follows the name and answers with the whole chain. If `is_split` is true, it leaves
    /// that to the client.
    Cname {
        ttl: u32,
        target: String,
        is_split: bool,
    },
    NxDomain,
    /// The name does not exist, and a client may cache that for this many seconds.
    NxDomainFor(u32),
    ServFail,
    Refused,
    /// The name exists, but has no address.
    Empty,
    Silent,
    /// A truncated answer over UDP, and this answer over TCP.
    Truncated(Box<Answer>),
    Late(Duration, Box<Answer>),
    /// This code and these records as they are, each a name and an address, whatever was asked.
    Records(ResponseCode, Vec<(String, IpAddr)>),
    /// This answer with one flaw.
    Forged(Forgery, Box<Answer>),
    /// Bytes that are not a message.
    Garbage,
}

/// A flaw in an answer that would be good without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Its id is not the id of the query.
    Id,
    /// It answers a question about `stranger.example.com`.
    Question,
    /// It says that it is a query itself.
    Query,
    /// Its records are in the additional section, and not among the answers.
    Section,
}

/// Makes an answer of these addresses with a TTL of 1 s.
pub fn addresses<const N: usize>(addresses: [&str; N]) -> Answer {
    Answer::Addresses {
        ttl: DEFAULT_TTL,
        addresses: addresses
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
    }
}

/// Makes a CNAME with a TTL of 1 s. Its whole chain is in one answer.
pub fn cname(target: &str) -> Answer {
    Answer::Cname {
        ttl: DEFAULT_TTL,
        target: target.to_owned(),
        is_split: false,
    }
}

/// A question that arrived, and the answer that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub at: Instant,
    pub name: String,
    pub record_type: String,
    pub is_tcp: bool,
    pub answer: String,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    latency: Duration,
    random: fastrand::Rng,
    asked: Vec<Asked>,
}

/// The answers by name. The server and those who change them share one state. A name that was never
/// set is NXDOMAIN.
#[derive(Debug, Clone, Default)]
pub struct Zone(Arc<Mutex<State>>);

impl Zone {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the zone was locked")
    }

    /// Seeds what is random, so that the same seed gives the same results.
    pub fn set_seed(&self, seed: u64) {
        self.state().random = fastrand::Rng::with_seed(seed);
    }

    /// Sets the time between a question and its answer. The delay of the answer itself is added to
    /// it.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Sets the answer for a name, from the next question on.
    pub fn set(&self, name: &str, answer: Answer) {
        self.state().answers.insert(name.to_lowercase(), answer);
    }

    /// Returns the questions since it was last asked, and forgets them.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// Returns the bytes of the answer, and its delay. `None` is silence.
    fn answer(&self, query: &[u8], is_tcp: bool) -> Option<(Duration, Vec<u8>)> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let name = question
            .name()
            .to_ascii()
            .to_lowercase()
            .trim_end_matches('.')
            .to_owned();
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.add_query(question.clone());
        response.metadata.recursion_desired = true;
        response.metadata.recursion_available = true;

        let mut state = self.state();
        let answer = state
            .answers
            .get(&name)
            .cloned()
            .unwrap_or(Answer::NxDomain);
        let (delay, is_silent) =
            state.fill(&mut response, &name, &answer, question.query_type(), is_tcp);
        state.asked.push(Asked {
            at: Instant::now(),
            name,
            record_type: question.query_type().to_string(),
            is_tcp,
            answer: describe(&response, is_silent),
        });
        let mut bytes = written(&response);
        let is_fitted = !is_tcp && !matches!(answer, Answer::Records(..));
        if is_fitted && bytes.len() > query.max_payload().into() {
            response.metadata.truncation = true;
            response.answers.clear();
            bytes = written(&response);
        }
        if answer == Answer::Garbage {
            bytes.truncate(7);
        }
        (!is_silent).then_some((state.latency + delay, bytes))
    }
}

/// A resolver between the zone and its clients, with a cache of its own. Like Unbound 1.17, it
/// counts the TTL down in whole seconds, and gives an answer until its second with TTL 0 is over.
#[derive(Debug, Clone)]
pub struct Cache {
    zone: Zone,
    entries: Arc<Mutex<HashMap<Query, (Instant, Message)>>>,
}

impl Cache {
    /// Makes an empty cache in front of a zone.
    pub fn of(zone: &Zone) -> Self {
        Cache {
            zone: zone.clone(),
            entries: Arc::default(),
        }
    }

    fn answer(&self, query: &[u8], is_tcp: bool) -> Option<(Duration, Vec<u8>)> {
        let question = Message::from_vec(query).ok()?;
        let key = question.queries.first()?.clone();
        let mut entries = self.entries.lock().expect("no panic while it was locked");
        let fresh = entries.get(&key).and_then(|(since, message)| {
            // A client that asks before the zone has answered waits for that answer.
            let left = since.saturating_duration_since(Instant::now());
            Some((left, aged(message, since.elapsed())?))
        });
        if let Some((left, mut message)) = fresh {
            message.metadata.id = question.metadata.id;
            return Some((left, written(&message)));
        }
        let (delay, bytes) = self.zone.answer(query, is_tcp)?;
        if let Ok(message) = Message::from_vec(&bytes) {
            entries.insert(key, (Instant::now() + delay, message));
        }
        Some((delay, bytes))
    }
}

/// Returns the message as it is given after this time, or `None` if it is too old. Only answers
/// with records are kept.
fn aged(message: &Message, age: Duration) -> Option<Message> {
    let age = u32::try_from(age.as_secs()).ok()?;
    let mut message = message.clone();
    for record in &mut message.answers {
        record.ttl = record.ttl.checked_sub(age)?;
    }
    (!message.answers.is_empty()).then_some(message)
}

/// Takes a query, and whether it came over TCP. Returns the bytes of the answer, and its delay.
/// `None` is silence.
pub type Responder = dyn Fn(&[u8], bool) -> Option<(Duration, Vec<u8>)> + Send + Sync;

/// The source of answers.
#[derive(Clone)]
pub enum Source {
    Zone(Zone),
    Cache(Cache),
    Responder(Arc<Responder>),
}

impl Source {
    /// Returns the bytes of the answer, and its delay. `None` is silence.
    pub fn answer(&self, query: &[u8], is_tcp: bool) -> Option<(Duration, Vec<u8>)> {
        match self {
            Source::Zone(zone) => zone.answer(query, is_tcp),
            Source::Cache(cache) => cache.answer(query, is_tcp),
            Source::Responder(responder) => responder(query, is_tcp),
        }
    }
}

impl From<&Zone> for Source {
    fn from(zone: &Zone) -> Self {
        Source::Zone(zone.clone())
    }
}

impl From<&Cache> for Source {
    fn from(cache: &Cache) -> Self {
        Source::Cache(cache.clone())
    }
}

impl State {
    /// Fills in the response. Returns the delay of the answer, and true if there is no answer.
    fn fill(
        &mut self,
        response: &mut Message,
        name: &str,
        answer: &Answer,
        record_type: RecordType,
        is_tcp: bool,
    ) -> (Duration, bool) {
        let mut code = |code| response.metadata.response_code = code;
        match answer {
            Answer::Addresses { ttl, addresses } => {
                let data = addresses.iter().map(|address| rdata(*address));
                let data = data.filter(|data| data.record_type() == record_type);
                response
                    .add_answers(data.map(|data| Record::from_rdata(absolute(name), *ttl, data)));
            }
            Answer::OneOf { ttl, addresses } => {
                let address = self.random.choice(addresses).copied();
                let addresses = address.into_iter().collect();
                let one = Answer::Addresses {
                    ttl: *ttl,
                    addresses,
                };
                return self.fill(response, name, &one, record_type, is_tcp);
            }
            Answer::Cname {
                ttl,
                target,
                is_split,
            } => {
                let data = RData::CNAME(CNAME(absolute(target)));
                response.add_answer(Record::from_rdata(absolute(name), *ttl, data));
                let is_loop = response.answers.len() > self.answers.len();
                let target = target.to_lowercase();
                let next = self.answers.get(&target).cloned();
                if !is_split && !is_loop {
                    let next = next.unwrap_or(Answer::NxDomain);
                    return self.fill(response, &target, &next, record_type, is_tcp);
                }
            }
            Answer::NxDomain => code(ResponseCode::NXDomain),
            Answer::NxDomainFor(ttl) => {
                code(ResponseCode::NXDomain);
                let origin = absolute("example.com");
                let soa = SOA::new(origin.clone(), origin.clone(), 1, 3600, 600, 86_400, *ttl);
                response.add_authority(Record::from_rdata(origin, *ttl, RData::SOA(soa)));
            }
            Answer::ServFail => code(ResponseCode::ServFail),
            Answer::Refused => code(ResponseCode::Refused),
            Answer::Empty => (),
            Answer::Silent => return (Duration::ZERO, true),
            Answer::Truncated(_) if !is_tcp => response.metadata.truncation = true,
            Answer::Truncated(answer) => {
                return self.fill(response, name, answer, record_type, is_tcp);
            }
            Answer::Late(delay, answer) => {
                let (_, is_silent) = self.fill(response, name, answer, record_type, is_tcp);
                return (*delay, is_silent);
            }
            Answer::Records(code, records) => {
                let record = |(name, address): &(String, IpAddr)| {
                    Record::from_rdata(absolute(name), DEFAULT_TTL, rdata(*address))
                };
                response.add_answers(records.iter().map(record));
                response.metadata.response_code = *code;
            }
            Answer::Forged(forgery, answer) => {
                let filled = self.fill(response, name, answer, record_type, is_tcp);
                forge(response, *forgery);
                return filled;
            }
            // The caller makes garbage of the response.
            Answer::Garbage => (),
        }
        (Duration::ZERO, false)
    }
}

fn written(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message that can be written")
}

fn forge(response: &mut Message, forgery: Forgery) {
    match forgery {
        Forgery::Id => response.metadata.id ^= 1,
        Forgery::Question => {
            for question in &mut response.queries {
                question.set_name(absolute("stranger.example.com"));
            }
        }
        Forgery::Query => response.metadata.message_type = MessageType::Query,
        Forgery::Section => response.additionals = std::mem::take(&mut response.answers),
    }
}

fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    name
}

fn describe(response: &Message, is_silent: bool) -> String {
    if is_silent {
        return "no answer".to_owned();
    }
    if response.metadata.truncation {
        return "truncated".to_owned();
    }
    let data: Vec<_> = response
        .answers
        .iter()
        .map(|record| record.data.to_string().trim_end_matches('.').to_owned())
        .collect();
    match response.metadata.response_code {
        ResponseCode::NoError if data.is_empty() => "no address".to_owned(),
        ResponseCode::NoError => data.join(", "),
        code => format!("{code:?}").to_uppercase(),
    }
}

/// A server on a free loopback port, over UDP and TCP. It ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(source: impl Into<Source>) -> Server {
        let (source, (udp, tcp)) = (source.into(), bind().await);
        let mut server = Server::over_udp(udp, source.clone());
        server.tasks.spawn(serve_tcp(tcp, source));
        server
    }

    /// Starts a server that accepts no connections over TCP, like one behind a firewall that knows
    /// only UDP.
    pub async fn start_without_tcp(source: impl Into<Source>) -> Server {
        Server::over_udp(bind().await.0, source.into())
    }

    fn over_udp(udp: UdpSocket, source: Source) -> Server {
        let address = udp.local_addr().expect("a bound socket");
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), source));
        Server { address, tasks }
    }
}

/// Binds the same port for both. A port that is free for TCP may be taken for UDP.
async fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("a bound socket");
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

async fn serve_udp(socket: Arc<UdpSocket>, source: Source) {
    let mut replies = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some((delay, answer)) = source.answer(&buffer[..length], false) {
            let socket = socket.clone();
            replies.spawn(async move {
                crate::delay(delay).await;
                // A server does not care about a client that no longer listens.
                let _ = socket.send_to(&answer, from).await;
            });
        }
    }
}

async fn serve_tcp(listener: TcpListener, source: Source) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_connection(stream, source.clone()));
    }
}

/// Answers the queries of a connection until the client goes away.
pub(crate) async fn serve_connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    source: Source,
) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        if let Some((delay, answer)) = source.answer(&query, true) {
            crate::delay(delay).await;
            let length = u16::try_from(answer.len()).expect("an answer below 64 KiB");
            let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}
