//! Connects to the cache step by step, so that it is known which step went wrong: TCP, TLS, the password or
//! a write. The steps are tokio's, rustls' and the redis crate's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, RedisError};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, crypto::ring};

use crate::arguments::Arguments;

/// The limit for each step. A client that waits for longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// The key that is written, to see whether a node accepts writes.
const KEY: &str = "drill:nlb-hostname-target";
/// The name of a connection that goes to a node past the load balancer.
const NAME: &str = "drill";
/// The key expires after this many seconds.
const EXPIRES_AFTER: u32 = 60;

/// A reason why a client cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// TCP was refused.
    Refused,
    /// Nothing came in time.
    Silent(Step),
    /// The other side closed the connection.
    Closed(Step),
    /// The answer to the TLS handshake was not TLS.
    NotTls,
    /// The certificate is for these names.
    OtherName(Vec<String>),
    /// The certificate's issuer is not trusted on this machine.
    OtherAuthority,
    /// The certificate is wrong in another way, for example expired.
    Certificate(String),
    /// The cache answered with an error. The fields are its code and its whole text.
    Error(String, String),
    /// Anything else.
    Other(Step, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Connect,
    Handshake,
    Command,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "the connection",
            Step::Handshake => "the TLS handshake",
            Step::Command => "a command",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("the connection is refused"),
            Failure::Silent(step) => write!(f, "no answer to {step} in {} s", PATIENCE.as_secs()),
            Failure::Closed(step) => {
                write!(f, "the other side closed the connection during {step}")
            }
            Failure::NotTls => f.write_str("the answer to the TLS handshake is not TLS"),
            Failure::OtherName(names) if names.is_empty() => {
                f.write_str("the certificate contains no name")
            }
            Failure::OtherName(names) => {
                write!(f, "the certificate is for {}", names.join(", "))
            }
            Failure::OtherAuthority => {
                f.write_str("the certificate's issuer is not trusted on this machine")
            }
            Failure::Certificate(error) => write!(f, "the certificate is not valid: {error}"),
            Failure::Error(_, message) => f.write_str(message),
            Failure::Other(step, error) => write!(f, "{step} fails: {error}"),
        }
    }
}

/// The way to connect to the cache.
#[derive(Clone)]
pub struct Client {
    /// The server name is the one to verify. `None` means plaintext.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    user: Option<String>,
    password: Option<String>,
}

impl Client {
    /// Makes the client that the arguments describe.
    ///
    /// # Errors
    /// The server name is not a valid name, or this machine's authorities cannot be read.
    pub fn new(arguments: &Arguments) -> Result<Self, String> {
        let mut client = Client {
            tls: None,
            user: arguments.user.clone(),
            password: arguments.password.clone(),
        };
        if !arguments.is_plaintext {
            client = client.with_tls(&arguments.server_name)?;
        }
        Ok(client)
    }

    /// Makes the same client with TLS, for a certificate of this name.
    ///
    /// # Errors
    /// The errors of [`Client::new`].
    pub fn with_tls(&self, server_name: &str) -> Result<Self, String> {
        let name = ServerName::try_from(server_name.to_owned());
        let name = name.map_err(|_| format!("{server_name:?} is not a server name"))?;
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(format!(
                "this machine has no trusted certificate authority: {:?}",
                found.errors
            ));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client {
            tls: Some((TlsConnector::from(Arc::new(config)), name)),
            ..self.clone()
        })
    }

    /// Makes the same client without TLS.
    pub fn without_tls(&self) -> Self {
        Client {
            tls: None,
            ..self.clone()
        }
    }

    /// Returns true if a password would be sent for everybody to read.
    pub fn is_careless(&self) -> bool {
        self.tls.is_none() && self.password.is_some()
    }

    /// Opens a connection and gives the password, if there is one. If there is no TLS, the other side gets the password
    /// only after it has answered as a cache does, and so does not wait for TLS.
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, Failure> {
        let mut connection = self.open(address).await?;
        if self.is_careless() {
            match connection.ping().await {
                Ok(()) | Err(Failure::Error(..)) => (),
                Err(failure) => return Err(failure),
            }
        }
        if let Some(password) = &self.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &self.user {
                auth.arg(user);
            }
            connection.query::<()>(auth.arg(password)).await?;
        }
        Ok(connection)
    }

    /// Opens a connection before anything is sent.
    pub async fn open(&self, address: SocketAddr) -> Result<Connection, Failure> {
        let step = Step::Connect;
        let stream = in_time(step, TcpStream::connect(address)).await?;
        let stream = stream.map_err(|error| io_failure(step, &error))?;
        let Some((connector, name)) = &self.tls else {
            return Connection::over(stream).await;
        };
        let step = Step::Handshake;
        let stream = in_time(step, connector.connect(name.clone(), stream)).await?;
        Connection::over(stream.map_err(|error| tls_failure(&error))?).await
    }
}

/// The connection ends when it is dropped.
pub struct Connection {
    commands: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, Failure>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // We set the time limits and give the password, so the redis crate sends nothing of its own.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (commands, driver) = made.map_err(|error| redis_failure(&error))?;
        let driver = spawn(driver).abort_handle();
        Ok(Connection { commands, driver })
    }

    pub async fn query<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, Failure> {
        let sent = self.commands.req_packed_command(command);
        let value = in_time(Step::Command, sent).await?;
        let value = value.and_then(|value| Ok(T::from_redis_value(value.extract_error()?)?));
        value.map_err(|error| redis_failure(&error))
    }

    pub async fn ping(&mut self) -> Result<(), Failure> {
        self.query(&redis::cmd("PING")).await
    }

    /// Returns `master` or `slave`.
    pub async fn role(&mut self) -> Result<String, Failure> {
        // The rest of the answer depends on the role.
        let role: Vec<redis::Value> = self.query(&redis::cmd("ROLE")).await?;
        let role = role.into_iter().next().unwrap_or(redis::Value::Nil);
        String::from_redis_value(role).map_err(|error| redis_failure(&error.into()))
    }

    /// Returns the number of shards that a cache in cluster mode has.
    pub async fn shards(&mut self) -> Result<u32, Failure> {
        let mut info = redis::cmd("CLUSTER");
        let text: String = self.query(info.arg("INFO")).await?;
        let size = text
            .lines()
            .find_map(|line| line.strip_prefix("cluster_size:"));
        let size = size.and_then(|size| size.trim().parse().ok());
        Ok(size.unwrap_or(0))
    }

    /// Gives the connection the name by which it is left out of [`Connection::others`].
    pub async fn name(&mut self) -> Result<(), Failure> {
        self.query(redis::cmd("CLIENT").arg("SETNAME").arg(NAME))
            .await
    }

    /// Returns how many other clients are connected to this node.
    pub async fn others(&mut self) -> Result<usize, Failure> {
        let mut list = redis::cmd("CLIENT");
        let clients: String = self
            .query(list.arg("LIST").arg("TYPE").arg("normal"))
            .await?;
        let own = format!(" name={NAME} ");
        let others = clients.lines().filter(|client| !client.contains(&own));
        Ok(others.count())
    }

    pub async fn write(&mut self, number: u64) -> Result<(), Failure> {
        let mut set = redis::cmd("SET");
        self.query(set.arg(KEY).arg(number).arg("EX").arg(EXPIRES_AFTER))
            .await
    }
}

async fn in_time<T>(step: Step, work: impl Future<Output = T>) -> Result<T, Failure> {
    let done = timeout(PATIENCE, work).await;
    done.map_err(|_| Failure::Silent(step))
}

fn io_failure(step: Step, error: &io::Error) -> Failure {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof,
    };
    match error.kind() {
        ConnectionRefused => Failure::Refused,
        TimedOut => Failure::Silent(step),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Failure::Closed(step),
        _ => Failure::Other(step, error.to_string()),
    }
}

fn tls_failure(error: &io::Error) -> Failure {
    let inner = error.get_ref();
    let Some(tls) = inner.and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return io_failure(Step::Handshake, error);
    };
    match tls {
        rustls::Error::InvalidMessage(_) => Failure::NotTls,
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => Failure::OtherName(presented.iter().map(|name| bare(name)).collect()),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Failure::OtherAuthority
        }
        rustls::Error::InvalidCertificate(error) => match error.to_string() {
            // The certificate is self-signed.
            error if error.contains("CaUsedAsEndEntity") => Failure::OtherAuthority,
            error => Failure::Certificate(error),
        },
        tls => Failure::Other(Step::Handshake, tls.to_string()),
    }
}

/// Returns the name alone. rustls writes the names of a certificate as `DnsName("example.com")`.
fn bare(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}

fn redis_failure(error: &RedisError) -> Failure {
    if let Some(code) = error.code() {
        let message = error.detail().unwrap_or_default();
        return Failure::Error(code.to_owned(), format!("{code} {message}"));
    }
    if error.is_timeout() {
        return Failure::Silent(Step::Command);
    }
    if error.is_connection_dropped() {
        return Failure::Closed(Step::Command);
    }
    Failure::Other(Step::Command, error.to_string())
}
