//! HTTP/1.1 on a free loopback port.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub type Request = hyper::Request<Bytes>;
pub type Response = hyper::Response<Bytes>;

/// A server that ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Answers each request as `answer` says; where that is `None`, the connection is closed
    /// instead.
    pub async fn start<F>(answer: impl Fn(Request) -> F + Clone + Send + Sync + 'static) -> Server
    where
        F: Future<Output = Option<Response>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let accepting = tokio::spawn(async move {
            // Connections end with the server, as tasks of this set.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answer.clone()));
            }
        });
        Server { address, accepting }
    }
}

async fn serve<F>(stream: TcpStream, answer: impl Fn(Request) -> F)
where
    F: Future<Output = Option<Response>>,
{
    let service = service_fn(async |request: hyper::Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| "the request broke off")?
            .to_bytes();
        let answer = answer(Request::from_parts(parts, body)).await;
        let answer = answer.ok_or("reset")?;
        Ok::<_, &str>(answer.map(Full::new))
    });
    // A client that goes away in the middle is the client's affair.
    let _: Result<(), hyper::Error> = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
