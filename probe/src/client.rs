//! Connects to the cache step by step, so that it is known which step went wrong: TCP, TLS, the password or a command.
//! The steps are tokio's, rustls' and the redis crate's.

use std::net::SocketAddr;
use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::failure::{Failure, PATIENCE, Step};

/// The way to connect to the cache.
#[derive(Clone)]
pub struct Client {
    /// `None` means plaintext.
    pub tls: Option<TlsConnector>,
    /// The name that the certificate must be for.
    pub server_name: ServerName<'static>,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Makes TLS with the authorities that the system trusts, or those of `SSL_CERT_FILE`.
///
/// # Errors
/// This machine trusts no authority.
pub fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(format!(
            "this machine trusts no certificate authority: {:?}",
            found.errors
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Client {
    /// Returns the same client without TLS, or with TLS if this one has none. A machine that trusts no authority cannot
    /// speak TLS.
    pub(crate) fn other_way(&self) -> Option<Self> {
        let tls = match &self.tls {
            Some(_) => None,
            None => Some(connector().ok()?),
        };
        Some(Client {
            tls,
            ..self.clone()
        })
    }

    /// Returns true if a password would be sent for everybody to read.
    pub fn is_careless(&self) -> bool {
        self.tls.is_none() && self.password.is_some()
    }

    /// Opens a connection and gives the password, if there is one. If there is no TLS, the other side gets the password
    /// only after it has answered as a cache does, and so does not wait for TLS.
    ///
    /// # Errors
    /// The failure of the first step that fails.
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
    pub(crate) async fn open(&self, address: SocketAddr) -> Result<Connection, Failure> {
        let step = Step::Connect;
        let stream = in_time(step, TcpStream::connect(address)).await?;
        let stream = stream.map_err(|error| Failure::of_io(step, &error))?;
        let Some(connector) = &self.tls else {
            return Connection::over(stream).await;
        };
        let step = Step::Handshake;
        let stream = connector.connect(self.server_name.clone(), stream);
        let stream = in_time(step, stream).await?;
        Connection::over(stream.map_err(|error| Failure::of_tls(&error))?).await
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
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // We set the time limits and give the password, so the redis crate sends nothing of its own.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (commands, driver) = made.map_err(|error| Failure::of_redis(&error))?;
        let driver = spawn(driver).abort_handle();
        Ok(Connection { commands, driver })
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Errors
    /// The cache's own error, a reply of another type, or no reply.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failure> {
        let sent = self.commands.req_packed_command(command);
        let value = in_time(Step::Command, sent).await?;
        let value = value.and_then(|value| Ok(T::from_redis_value(value.extract_error()?)?));
        value.map_err(|error| Failure::of_redis(&error))
    }

    /// Sends commands together. Each has its own outcome.
    pub(crate) async fn query_all(
        &mut self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let count = commands.len();
        let sent = self.commands.req_packed_commands(commands, 0, count);
        let values = in_time(Step::Command, sent).await?;
        let values = values.map_err(|error| Failure::of_redis(&error))?;
        let outcome = |value: Value| match value.extract_error() {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::of_redis(&error)),
        };
        Ok(values.into_iter().map(outcome).collect())
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Failure> {
        self.query(&redis::cmd("PING")).await
    }
}

async fn in_time<T>(step: Step, work: impl Future<Output = T>) -> Result<T, Failure> {
    let done = timeout(PATIENCE, work).await;
    done.map_err(|_| Failure::Silent(step))
}
