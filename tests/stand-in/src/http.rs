//! Serves HTTP/1.1 on a free loopback port.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate for `localhost`, valid until 2126. Only tests trust it, so its key is not a secret. It was made with
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=stand-in
/// -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE`.
const CERTIFICATE: &str = include_str!("tls/localhost.pem");
const KEY: &str = include_str!("tls/localhost.key");

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
    /// Answers each request with what `answer` returns. If that is `None`, the connection is closed instead.
    pub async fn start<F>(answer: impl Fn(Request) -> F + Clone + Send + Sync + 'static) -> Server
    where
        F: Future<Output = Option<Response>> + Send + 'static,
    {
        Server::listen(None, answer).await
    }

    /// Does the same over TLS. Also returns the certificate for `localhost` to trust, in PEM.
    pub async fn start_tls<F>(
        answer: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
    ) -> (Server, String)
    where
        F: Future<Output = Option<Response>> + Send + 'static,
    {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes());
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring knows the protocol's versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate")],
                key.expect("a key"),
            )
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (
            Server::listen(Some(acceptor), answer).await,
            CERTIFICATE.to_owned(),
        )
    }

    async fn listen<F>(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output = Option<Response>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let accepting = tokio::spawn(async move {
            // The connections are tasks of this set, so they end with the server.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // As with the real services, small answers do not wait until earlier ones are acknowledged.
                let _ = stream.set_nodelay(true);
                let (tls, answer) = (tls.clone(), answer.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, answer).await,
                        // A client that does not trust the certificate breaks off.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Server { address, accepting }
    }
}

async fn serve<F, S>(stream: S, answer: impl Fn(Request) -> F)
where
    F: Future<Output = Option<Response>>,
    S: AsyncRead + AsyncWrite + Unpin,
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
    // A client may go away in the middle.
    let _: Result<(), hyper::Error> = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
