//! A connection to the cache, from TCP to the login.

use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value, cmd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::{AbortHandle, spawn};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::stream::{Meter, Metered};
use crate::config::{CacheConfig, MAX_COMMANDS};
use crate::error::Error;

/// Lambda freezes a sandbox between two requests. After a pause this long, a connection is tried before it is used.
const IDLE: Duration = Duration::from_secs(10);
/// The time in which a connection that idled must answer.
const ALIVE_WITHIN: Duration = Duration::from_millis(500);
/// The limit for replies that no client asked for.
const OWN_REPLIES: usize = 64 * 1024;

/// The connection ends when it is dropped.
pub struct Connection {
    commands: MultiplexedConnection,
    driver: AbortHandle,
    meter: Arc<Meter>,
    node: SocketAddr,
    /// When the connection answered last.
    answered: Moment,
    /// When the endpoint was last seen to lead to the node.
    resolved: Moment,
    is_atomic_allowed: bool,
    /// A reply is missing, so later ones would be taken for it.
    is_broken: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
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

    /// True if one of the clocks says so.
    fn is_long_ago(self) -> bool {
        let wall = self.wall.elapsed();
        self.monotonic.elapsed() >= IDLE || wall.is_ok_and(|elapsed| elapsed >= IDLE)
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
        let stream = TcpStream::connect((&*endpoint, port)).await;
        let stream = stream.map_err(|error| unreachable("connect to", &error))?;
        let node = stream.peer_addr().and_then(|node| {
            stream.set_nodelay(true)?;
            Ok(node)
        });
        let node = node.map_err(|error| unreachable("connect to", &error))?;
        let connection = match tls {
            None => Connection::over(stream, node).await,
            Some(tls) => {
                let stream = tls.connect(config.endpoint.clone(), stream).await;
                let stream = stream.map_err(|error| unreachable("speak TLS with", &error))?;
                Connection::over(stream, node).await
            }
        };
        connection.map_err(|error| unreachable("speak to", &error))
    }

    async fn over<S>(stream: S, node: SocketAddr) -> Result<Self, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let meter = Arc::new(Meter::default());
        meter.begin(OWN_REPLIES);
        let stream = Metered {
            stream,
            meter: meter.clone(),
        };
        // We set the time limits and log in, so the redis crate sends nothing of its own. Users of the cache need not
        // be allowed to send CLIENT SETINFO.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            // All commands of a request can wait in it, with MULTI and EXEC.
            .set_pipeline_buffer_size(MAX_COMMANDS + 2);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (commands, driver) = made?;
        Ok(Connection {
            commands,
            driver: spawn(driver).abort_handle(),
            meter,
            node,
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
            Err(error) => Err(Unconnected::Unreachable(error.to_string())),
        }
    }

    /// True if the connection can be used: it was used a moment ago, or it answers and its node still has the endpoint.
    /// A node that was demoted goes on answering.
    pub async fn is_usable(&mut self, config: &CacheConfig) -> bool {
        let is_idle = self.answered.is_long_ago();
        let is_old = self.resolved.is_long_ago();
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
        let (leads_here, answers) = join(leads_here, answers).await;
        if is_old && leads_here {
            self.resolved = Moment::now();
        }
        leads_here && answers
    }

    /// Makes sure that the user may send a transaction. If the cache refused `MULTI`, it would execute the commands
    /// behind it one by one.
    ///
    /// # Errors
    /// [`Error::ExecAbort`] if the user may not. [`Error::Unreachable`] if the connection is lost.
    pub async fn allow_atomic(&mut self) -> Result<(), Error> {
        if self.is_atomic_allowed {
            return Ok(());
        }
        let refused = |error: Error| match error {
            Error::Cache { code, message } => {
                Error::ExecAbort(format!("the cache refuses a transaction: {code} {message}"))
            }
            lost => Error::Unreachable(lost.to_string()),
        };
        self.query(&cmd("MULTI")).await.map_err(refused)?;
        // Until it is discarded, whatever is sent is queued.
        self.is_broken = true;
        self.query(&cmd("DISCARD")).await.map_err(refused)?;
        self.is_atomic_allowed = true;
        Ok(())
    }

    async fn query(&mut self, command: &Cmd) -> Reply {
        let far = Instant::now() + Duration::from_secs(3600);
        let replies = self.send(slice::from_ref(command), OWN_REPLIES, far);
        replies.await.remove(0)
    }

    /// Sends the commands together, and waits for their replies until the deadline. The replies together may have this
    /// many bytes.
    pub async fn send(&mut self, commands: &[Cmd], limit: usize, deadline: Instant) -> Vec<Reply> {
        self.meter.begin(limit);
        // It stays so if nobody waits for the end.
        self.is_broken = true;
        let replies: Vec<_> = commands.iter().map(|_| OnceCell::new()).collect();
        let answered = commands.iter().zip(&replies).map(|(command, reply)| {
            let mut connection = self.commands.clone();
            async move {
                let answer = connection.req_packed_command(command).await;
                let answer =
                    answer.map_or_else(|error| Err(Error::Unknown(lost(&error))), reply_of);
                let _ = reply.set(answer);
            }
        });
        // What has come by then counts.
        let _ = timeout_at(deadline, join_all(answered)).await;
        let late = || {
            Err(Error::Unknown(
                "the cache did not answer in time".to_owned(),
            ))
        };
        let replies = replies.into_iter();
        let mut replies: Vec<_> = replies
            .map(|reply| reply.into_inner().unwrap_or_else(late))
            .collect();
        let mut unanswered = replies.iter_mut();
        match unanswered.find(|reply| matches!(reply, Err(Error::Unknown(_)))) {
            Some(cut) if self.meter.is_over() => {
                *cut = Err(Error::TooBig(format!(
                    "the replies have more than {limit} bytes; the command was executed"
                )));
            }
            Some(_) => (),
            None => {
                self.answered = Moment::now();
                self.is_broken = false;
            }
        }
        replies
    }

    /// False if a reply was lost.
    pub fn is_whole(&self) -> bool {
        !self.is_broken
    }

    /// True if a byte of the last commands may have reached the cache.
    pub fn is_sent(&self) -> bool {
        self.meter.is_sent()
    }

    /// The number of bytes of the last replies.
    pub fn reply_bytes(&self) -> u64 {
        self.meter.read()
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
fn lost(error: &RedisError) -> String {
    match error.is_connection_dropped() || error.is_io_error() {
        true => "the connection to the cache ended".to_owned(),
        false => "the reply of the cache cannot be read".to_owned(),
    }
}
