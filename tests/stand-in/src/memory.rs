//! The same stand-ins without sockets, so that time can be virtual. Hickory's network and the SDK's
//! HTTP client are carried in memory. Under tokio's paused clock, an answer takes exactly the time
//! that the stand-in says.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioTime};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};

use crate::aws::{Aws, Reply};
use crate::dns::{Source, serve_connection};
use crate::http::{Request, Response};

/// A function that is told of each answer.
type Watcher = dyn Fn(&[u8]) + Send + Sync;

/// The DNS servers by address, over UDP and TCP. At any other address, a query is never answered
/// and a connection is refused.
#[derive(Clone)]
pub struct Network {
    servers: Arc<HashMap<SocketAddr, Source>>,
    arrived: Arc<Watcher>,
    handle: TokioHandle,
}

/// The number of bytes that a connection holds in each direction. It is more than a DNS message
/// has.
const BUFFER: usize = 1 << 17;

impl Network {
    pub fn new(servers: impl IntoIterator<Item = (SocketAddr, Source)>) -> Self {
        Network {
            servers: Arc::new(servers.into_iter().collect()),
            arrived: Arc::new(|_| ()),
            handle: TokioHandle::default(),
        }
    }

    /// Tells the watcher of every answer when it arrives at the client.
    pub fn watched_by(self, watcher: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        let arrived = Arc::new(watcher);
        Network { arrived, ..self }
    }

    /// Returns what a server answers over a connection. The watcher is told of these answers too.
    fn over_tcp(&self, server: SocketAddr) -> Option<Source> {
        let (source, arrived) = (self.servers.get(&server)?.clone(), self.arrived.clone());
        Some(Source::Responder(Arc::new(move |query, is_tcp| {
            let (delay, answer) = source.answer(query, is_tcp)?;
            let (arrived, arriving) = (arrived.clone(), answer.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                arrived(&arriving);
            });
            Some((delay, answer))
        })))
    }
}

impl RuntimeProvider for Network {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Socket;
    type Tcp = AsyncIoTokioAsStd<DuplexStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        _timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let source = self.over_tcp(server);
        Box::pin(async {
            let source = source.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (client, server) = tokio::io::duplex(BUFFER);
            tokio::spawn(serve_connection(server, source));
            Ok(AsyncIoTokioAsStd(client))
        })
    }

    fn bind_udp(
        &self,
        _local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        let (sender, receiver) = unbounded_channel();
        let socket = Socket {
            servers: self.servers.clone(),
            arrived: self.arrived.clone(),
            sender,
            receiver: Mutex::new(receiver),
        };
        Box::pin(async { Ok(socket) })
    }
}

type Datagram = (Vec<u8>, SocketAddr);

/// A UDP socket.
pub struct Socket {
    servers: Arc<HashMap<SocketAddr, Source>>,
    arrived: Arc<Watcher>,
    sender: UnboundedSender<Datagram>,
    receiver: Mutex<UnboundedReceiver<Datagram>>,
}

impl DnsUdpSocket for Socket {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut receiver = self.receiver.lock().expect("no panic while it was locked");
        let (datagram, from) =
            ready!(receiver.poll_recv(context)).expect("a sender is in the socket");
        // As with any datagram, what does not fit is lost.
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Poll::Ready(Ok((length, from)))
    }

    fn poll_send_to(
        &self,
        _context: &mut Context<'_>,
        query: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let answer = self
            .servers
            .get(&to)
            .and_then(|server| server.answer(query, false));
        if let Some((delay, answer)) = answer {
            let (sender, arrived) = (self.sender.clone(), self.arrived.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                // A server does not care about a client that no longer listens.
                if !sender.is_closed() {
                    arrived(&answer);
                    let _ = sender.send((answer, to));
                }
            });
        }
        Poll::Ready(Ok(query.len()))
    }
}

/// A way to AWS and back.
pub trait Way: Clone + Send + Sync + 'static {
    /// Carries a request, and returns its response. `None` means that the connection was closed
    /// instead.
    fn carry(&self, request: Request) -> impl Future<Output = Option<Response>> + Send;
}

impl Way for Aws {
    async fn carry(&self, request: Request) -> Option<Response> {
        match self.answer(Instant::now(), &request) {
            Reply::After(delay, response) => {
                crate::delay(delay).await;
                Some(response)
            }
            Reply::Never => std::future::pending().await,
            Reply::Reset => None,
        }
    }
}

/// The SDK's HTTP client, over a way to AWS.
#[derive(Clone)]
pub struct Http<W>(pub W);

impl<W> fmt::Debug for Http<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl<W: Way> HttpClient for Http<W> {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl<W: Way> HttpConnector for Http<W> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = request.try_into_http1x().expect("a valid request");
        let request =
            request.map(|body| Bytes::copy_from_slice(body.bytes().expect("a body in memory")));
        let way = self.0.clone();
        HttpConnectorFuture::new(async move {
            let response = way.carry(request).await.ok_or_else(|| {
                let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                ConnectorError::io(reset.into())
            })?;
            let response = HttpResponse::try_from(response.map(SdkBody::from));
            Ok(response.expect("a valid response"))
        })
    }
}

/// The time of day in virtual time. It goes on with tokio's clock. A test moves it forward, as
/// after a sandbox was frozen, or back.
#[derive(Debug, Clone)]
pub struct WallClock {
    begin: Instant,
    at_begin: Arc<Mutex<SystemTime>>,
}

impl WallClock {
    /// Makes a clock at which it is `now`.
    pub fn at(now: SystemTime) -> Self {
        WallClock {
            begin: Instant::now(),
            at_begin: Arc::new(Mutex::new(now)),
        }
    }

    pub fn forward(&self, by: Duration) {
        *self.at_begin.lock().expect("no panic while it was locked") += by;
    }

    pub fn back(&self, by: Duration) {
        *self.at_begin.lock().expect("no panic while it was locked") -= by;
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        let at_begin = *self.at_begin.lock().expect("no panic while it was locked");
        at_begin + self.begin.elapsed()
    }
}
