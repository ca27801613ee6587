//! The cache, as the front door sees it: one connection for each role, made anew when it has to be.

mod again;
mod connection;
mod iam;
mod secret;
mod stream;
mod transaction;

use std::cell::RefCell;
use std::mem;
use std::time::{Duration, SystemTime};

use probe::{Client, connector};
use redis::Cmd;
use tokio::join;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use crate::commands::{Kind, Role};
use crate::config::{Authentication, CacheConfig, Iam, Limits};
use crate::error::Error;
use crate::request::Command;
use again::Next;
use connection::{Connection, Unconnected};

pub use connection::Reply;
use secret::Secret;

/// The first wait before the cache is tried again. It doubles up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The cache and the connections to it. Lambda gives a sandbox one request at a time.
pub struct Cache {
    config: CacheConfig,
    limits: Limits,
    tls: Option<TlsConnector>,
    login: Login,
    kept: RefCell<Kept>,
}

/// How to log in.
enum Login {
    None,
    Secret(Secret),
    Iam(Iam),
}

#[derive(Default)]
struct Kept {
    reader: Slot,
    writer: Slot,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// A connection was made for this role before.
    was_used: bool,
}

/// What came of a request.
#[derive(Debug)]
pub struct Sent {
    /// One reply for each command, or why there is none.
    pub replies: Result<Vec<Reply>, Error>,
    /// The number of connections that were made in the place of earlier ones.
    pub reconnects: u32,
    /// The bytes of the replies.
    pub bytes: usize,
    /// What somebody has to mend before any client gets an answer.
    pub fault: Option<String>,
}

impl Cache {
    /// Makes the cache without connecting to it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if TLS is wanted, and this machine trusts no authority.
    pub fn new(config: CacheConfig, limits: Limits) -> Result<Self, Error> {
        let tls = config.is_tls.then(connector).transpose();
        let tls = tls.map_err(|why| Error::InvalidConfig(format!("TLS is true, but {why}")))?;
        let login = match &config.authentication {
            Authentication::None => Login::None,
            Authentication::Secret(arn) => Login::Secret(Secret::new(arn.clone())),
            Authentication::Iam(iam) => Login::Iam(iam.clone()),
        };
        Ok(Cache {
            login,
            config,
            limits,
            tls,
            kept: RefCell::default(),
        })
    }

    /// Sends the commands, and sends them again where nothing of them was done. All of that ends at the deadline.
    pub async fn send(
        &self,
        role: Role,
        commands: &[(&Command, Kind)],
        is_atomic: bool,
        deadline: Instant,
    ) -> Sent {
        let kinds: Vec<_> = commands.iter().map(|(_, kind)| *kind).collect();
        let (mut is_moved, mut is_resent) = (false, false);
        let mut wait = SHORTEST_WAIT;
        let mut sent = Sent {
            replies: Ok(Vec::new()),
            reconnects: 0,
            bytes: 0,
            fault: None,
        };
        loop {
            let mut connection = match self.connection(role, deadline, &mut sent).await {
                Ok(connection) => connection,
                Err(Unconnected::Fault(why)) => {
                    sent.replies = Err(Error::Unreachable(why.clone()));
                    sent.fault = Some(why);
                    return sent;
                }
                Err(Unconnected::Unreachable(why)) => {
                    sent.replies = Err(Error::Unreachable(why));
                    if !pause(&mut wait, deadline).await {
                        return sent;
                    }
                    continue;
                }
            };
            sent.replies = self
                .attempt(&mut connection, commands, is_atomic, deadline)
                .await;
            sent.bytes = connection.reply_bytes();
            let next = again::next(&kinds, &sent.replies);
            let is_lost = matches!(sent.replies, Err(Error::Unknown(_)));
            if again::is_replica(&sent.replies) {
                // The other role's connection leads to the same node.
                let mut kept = self.kept.borrow_mut();
                (kept.reader.connection, kept.writer.connection) = (None, None);
            } else if connection.is_whole() && !is_lost {
                self.kept.borrow_mut().of(role).connection = Some(connection);
            }
            match next {
                Next::FindPrimary if !is_moved => is_moved = true,
                Next::Resend if !is_resent && Instant::now() < deadline => is_resent = true,
                Next::Wait if pause(&mut wait, deadline).await => (),
                _ => return sent,
            }
        }
    }

    /// Takes the connection that was kept, or makes one.
    async fn connection(
        &self,
        role: Role,
        deadline: Instant,
        sent: &mut Sent,
    ) -> Result<Connection, Unconnected> {
        let connecting = async {
            let kept = self.kept.borrow_mut().of(role).connection.take();
            if let Some(mut connection) = kept
                && connection.is_usable(&self.config).await
            {
                return Ok(connection);
            }
            let was_used = mem::replace(&mut self.kept.borrow_mut().of(role).was_used, true);
            sent.reconnects += u32::from(was_used);
            self.connect(role).await
        };
        let late =
            |_| Unconnected::Unreachable("the cache could not be reached in time".to_owned());
        timeout_at(deadline, connecting).await.map_err(late)?
    }

    /// Returns what the probe connects with, as requests do.
    ///
    /// # Errors
    /// The error is why the secret cannot be read, or the token not signed.
    pub async fn client(&self, role: Role) -> Result<Client, String> {
        let credentials = match &self.login {
            Login::None => None,
            Login::Secret(secret) => Some(secret.read().await?),
            Login::Iam(iam) => Some(iam.credentials(role, SystemTime::now())?),
        };
        let mut client = self.anonymous();
        if let Some(credentials) = credentials {
            (client.user, client.password) = (credentials.user, Some(credentials.password));
        }
        Ok(client)
    }

    /// Returns the same client without a login.
    pub fn anonymous(&self) -> Client {
        Client {
            tls: self.tls.clone(),
            server_name: self.config.endpoint.clone(),
            user: None,
            password: None,
        }
    }

    /// Connects and logs in. The secret is read again if the cache refuses what was read before.
    async fn connect(&self, role: Role) -> Result<Connection, Unconnected> {
        let connection = Connection::open(&self.config, self.tls.as_ref());
        let secret = match &self.login {
            Login::None => return connection.await,
            Login::Secret(secret) => secret,
            Login::Iam(iam) => {
                let mut connection = connection.await?;
                let token = iam.credentials(role, SystemTime::now());
                let token = token.map_err(Unconnected::Fault)?;
                connection.log_in(&token).await?;
                return Ok(connection);
            }
        };
        let (connection, credentials) = join!(connection, secret.get());
        let mut connection = connection?;
        let credentials = credentials.map_err(Unconnected::Fault)?;
        let refused = match connection.log_in(&credentials).await {
            Err(refused @ Unconnected::Fault(_)) => refused,
            another => return another.map(|()| connection),
        };
        let rotated = secret.read().await.map_err(Unconnected::Fault)?;
        if rotated == credentials {
            return Err(refused);
        }
        connection.log_in(&rotated).await?;
        Ok(connection)
    }

    async fn attempt(
        &self,
        connection: &mut Connection,
        commands: &[(&Command, Kind)],
        is_atomic: bool,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Error> {
        let limit = self.limits.reply_bytes;
        let packed: Vec<_> = commands
            .iter()
            .map(|(command, _)| packed(command))
            .collect();
        if !is_atomic {
            return Ok(connection.send(&packed, limit, deadline).await);
        }
        let late = |_| Error::Unreachable("the cache did not answer in time".to_owned());
        let allowed = timeout_at(deadline, connection.allow_atomic()).await;
        allowed.map_err(late)??;
        let transaction = transaction::enclose(packed);
        transaction::disclose(connection.send(&transaction, limit, deadline).await)
    }
}

impl Kept {
    fn of(&mut self, role: Role) -> &mut Slot {
        match role {
            Role::Reader => &mut self.reader,
            Role::Writer => &mut self.writer,
        }
    }
}

/// Waits before another attempt, twice as long as the last time. Returns false if there is no time for one.
async fn pause(wait: &mut Duration, deadline: Instant) -> bool {
    let is_in_time = Instant::now() + *wait < deadline;
    if is_in_time {
        sleep(*wait).await;
    }
    *wait = LONGEST_WAIT.min(*wait * 2);
    is_in_time
}

fn packed(command: &Command) -> Cmd {
    let mut packed = Cmd::new();
    packed.arg(&command.name);
    for argument in &command.arguments {
        packed.arg(argument);
    }
    packed
}
