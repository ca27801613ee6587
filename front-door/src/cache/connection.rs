//! A connection to the cache, from TCP to the login.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::slice;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use combine::parser::combinator::AnySendSyncPartialState;
use combine::stream::{Decoder, PointerOffset};
use redis::{Cmd, RedisError, Value, cmd, parse_redis_value_async};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, split};
use tokio::join;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::stream::{Metered, Stream};
use crate::config::CacheConfig;
use crate::error::Error;

/// Lambda freezes a sandbox between two requests. After a pause this long, a connection is tried before it is used.
const IDLE: Duration = Duration::from_secs(10);
/// ElastiCache ends a connection 12 hours after its login with IAM:
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html#auth-iam-limits>
const LIFETIME: Duration = Duration::from_secs(11 * 3600 + 1800);
/// The time in which a connection that idled must answer.
const ALIVE_WITHIN: Duration = Duration::from_millis(500);
/// The time in which a node must take a connection. One packet of it may be lost. After that the endpoint is resolved
/// again, which may have moved away from a node that is silent.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// The limit for replies that no client asked for.
const OWN_REPLIES: usize = 64 * 1024;

/// A connection. It ends when it is dropped.
pub struct Connection {
    stream: Metered<Box<dyn Stream>>,
    /// Holds what was read and is no whole reply yet.
    replies: Decoder<AnySendSyncPartialState, PointerOffset<[u8]>>,
    node: SocketAddr,
    made: Moment,
    /// When the connection answered last.
    answered: Moment,
    /// When the endpoint was last seen to lead to the node.
    resolved: Moment,
    is_atomic_allowed: bool,
    /// A reply is missing or one too many, so later ones would be taken for others.
    is_broken: bool,
}

/// A time by two clocks. The monotonic one may stand still while a sandbox is frozen, and the wall clock may be set.
#[derive(Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Moment {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// True if one of the clocks says that so much time has passed.
    fn is_past(self, time: Duration) -> bool {
        let wall = self.wall.elapsed();
        self.monotonic.elapsed() >= time || wall.is_ok_and(|elapsed| elapsed >= time)
    }
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

/// Keeps the password out of every message.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unconnected {
    /// The network, TLS or a cache that does not answer yet. It may pass.
    Unreachable(String),
    /// The cache refuses the login, or the secret cannot be read. Somebody has to mend that.
    Fault(String),
}

/// The reply to a command. A command that was not answered is [`Error::Unknown`].
pub type Reply = Result<Value, Error>;

impl Connection {
    /// Resolves the endpoint and connects.
    ///
    /// # Errors
    /// [`Unconnected`] says at which of these steps it ended.
    pub async fn open(
        config: &CacheConfig,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, Unconnected> {
        let (endpoint, port) = (config.endpoint.to_str(), config.port);
        let unreachable = |step: &str, error: &dyn fmt::Display| {
            Unconnected::Unreachable(format!("cannot {step} {endpoint}:{port}: {error}"))
        };
        let connecting = TcpStream::connect((&*endpoint, port));
        let stream = timeout(CONNECTED_WITHIN, connecting)
            .await
            .map_err(|_| unreachable("connect to", &"it is silent"))?
            .map_err(|error| unreachable("connect to", &error))?;
        let node = stream.peer_addr().and_then(|node| {
            stream.set_nodelay(true)?;
            Ok(node)
        });
        let node = node.map_err(|error| unreachable("connect to", &error))?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(tls) => {
                let stream = tls.connect(config.endpoint.clone(), stream).await;
                Box::new(stream.map_err(|error| unreachable("speak TLS with", &error))?)
            }
        };
        Ok(Connection {
            stream: Metered::new(stream),
            replies: Decoder::new(),
            node,
            made: Moment::now(),
            answered: Moment::now(),
            resolved: Moment::now(),
            is_atomic_allowed: false,
            is_broken: false,
        })
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`Unconnected::Fault`] if the cache refuses it.
    pub async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Unconnected> {
        let mut auth = cmd("AUTH");
        if let Some(user) = &credentials.user {
            auth.arg(user);
        }
        match self.query(auth.arg(&credentials.password)).await {
            Ok(_) => Ok(()),
            Err(Error::Cache { code, message }) => Err(Unconnected::Fault(format!(
                "the cache refuses the login: {code} {message}"
            ))),
            Err(Error::Unknown(why) | Error::Unreachable(why)) => {
                Err(Unconnected::Unreachable(why))
            }
            Err(error) => Err(Unconnected::Unreachable(error.to_string())),
        }
    }

    /// True if the connection can be used: it is not about to end, the node has not ended it, and it was used a moment
    /// ago, or it answers and its node still has the endpoint. A node that was demoted goes on answering.
    pub async fn is_usable(&mut self, config: &CacheConfig) -> bool {
        if self.made.is_past(LIFETIME) || !self.is_silent().await {
            return false;
        }
        let is_idle = self.answered.is_past(IDLE);
        let is_old = self.resolved.is_past(IDLE);
        let node = self.node;
        let leads_here = async {
            let endpoint = config.endpoint.to_str();
            let resolved = lookup_host((&*endpoint, config.port));
            match timeout(ALIVE_WITHIN, resolved).await {
                Ok(Ok(mut addresses)) => addresses.any(|address| address == node),
                // Without an answer, there is no better node.
                _ => true,
            }
        };
        let leads_here = async { !is_old || leads_here.await };
        let answers = async {
            let ping = cmd("PING");
            let answered = timeout(ALIVE_WITHIN, self.query(&ping));
            !is_idle || matches!(answered.await, Ok(Ok(_) | Err(Error::Cache { .. })))
        };
        let (leads_here, answers) = join!(leads_here, answers);
        if is_old && leads_here {
            self.resolved = Moment::now();
        }
        leads_here && answers && self.is_whole()
    }

    /// True if there is nothing to read. A node that ends a connection that nobody uses sends the end of the stream, or
    /// an error before it.
    async fn is_silent(&mut self) -> bool {
        // Takes notice of what arrived since the runtime waited last.
        yield_now().await;
        self.stream.begin(1);
        let stream = &mut self.stream;
        poll_fn(|cx| {
            let read = Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut [0]));
            Poll::Ready(read.is_pending())
        })
        .await
    }

    /// Makes sure that the user may send a transaction. If the cache refused `MULTI`, it would execute the commands
    /// behind it one by one.
    ///
    /// # Errors
    /// [`Error::ExecAbort`] if the user may not. [`Error::Unreachable`] if the connection is lost, or if the node is not
    /// ready. [`Error::InvalidConfig`] if it asks for a login.
    pub async fn allow_atomic(&mut self) -> Result<(), Error> {
        if self.is_atomic_allowed {
            return Ok(());
        }
        let refused = |error: Error| match error {
            Error::Cache { code, message } => {
                Error::ExecAbort(format!("the cache refuses a transaction: {code} {message}"))
            }
            Error::Unknown(lost) => Error::Unreachable(lost),
            another => another,
        };
        self.query(&cmd("MULTI")).await.map_err(refused)?;
        let discarded = self.query(&cmd("DISCARD")).await;
        // Whatever is sent behind a MULTI is queued.
        self.is_broken |= discarded.is_err();
        discarded.map_err(refused)?;
        self.is_atomic_allowed = true;
        Ok(())
    }

    async fn query(&mut self, command: &Cmd) -> Reply {
        let far = Instant::now() + Duration::from_secs(3600);
        let reply = self.send(slice::from_ref(command), OWN_REPLIES, far);
        let reply = reply.await.remove(0);
        match self.is_broken {
            true => reply.and(Err(Error::Unknown(
                "a reply belongs to no command".to_owned(),
            ))),
            false => reply,
        }
    }

    /// Sends the commands together, and waits for their replies until the deadline. The replies together may have this
    /// many bytes.
    pub async fn send(&mut self, commands: &[Cmd], limit: usize, deadline: Instant) -> Vec<Reply> {
        self.stream.begin(limit);
        // It stays so if nobody waits for the end.
        self.is_broken = true;
        let mut packed = Vec::new();
        for command in commands {
            command.write_packed_command(&mut packed);
        }
        let mut replies = Vec::with_capacity(commands.len());
        let decoder = &mut self.replies;
        let (mut reading, mut writing) = split(&mut self.stream);
        let write = async {
            writing.write_all(&packed).await?;
            writing.flush().await
        };
        let read = async {
            while replies.len() < commands.len() {
                let reply = parse_redis_value_async(decoder, &mut reading).await;
                replies.push(reply_of(reply.map_err(|error| lost(&error))?));
            }
            Ok(())
        };
        // The cache may have answered before it ended the connection, so what is left is read in any case.
        let exchange = async { join!(write, read).1 };
        let late = |_| Err("the cache did not answer in time");
        let ended = timeout_at(deadline, exchange).await.unwrap_or_else(late);
        if let Err(why) = ended {
            let cut = replies.len();
            replies.resize_with(commands.len(), || Err(Error::Unknown(why.to_owned())));
            if let Some(reply) = replies.get_mut(cut)
                && self.stream.is_over()
            {
                *reply = Err(Error::TooBig(format!(
                    "the replies have more than {limit} bytes; the command may have been executed"
                )));
            }
        } else if decoder.buffer().is_empty() {
            self.answered = Moment::now();
            self.is_broken = false;
        }
        replies
    }

    /// True if the next reply is that to the next command.
    pub fn is_whole(&self) -> bool {
        !self.is_broken
    }

    /// The number of bytes of the last replies.
    pub fn reply_bytes(&self) -> usize {
        self.stream.read()
    }
}

/// Takes the error out of a value that is one.
pub fn reply_of(value: Value) -> Reply {
    match value {
        Value::ServerError(error) => Err(Error::of_cache(error.code(), error.details())),
        value => Ok(value),
    }
}

/// The redis crate repeats in its messages what the cache sent, which may be a value.
fn lost(error: &RedisError) -> &'static str {
    match error.is_io_error() {
        true => "the connection to the cache ended",
        false => "the reply of the cache cannot be read",
    }
}
