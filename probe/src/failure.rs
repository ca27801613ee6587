//! A failure is why one step of a client did not succeed.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::RedisError;
use tokio_rustls::rustls::{self, CertificateError};

/// The limit for each step. A client that waits for longer hangs. In this time, the first packet is sent twice.
pub const PATIENCE: Duration = Duration::from_secs(3);

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

impl Failure {
    /// Takes the reason out of an error of the network.
    pub(crate) fn of_io(step: Step, error: &io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut,
            UnexpectedEof,
        };
        match error.kind() {
            ConnectionRefused => Failure::Refused,
            TimedOut => Failure::Silent(step),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                Failure::Closed(step)
            }
            _ => Failure::Other(step, error.to_string()),
        }
    }

    /// Takes the reason out of an error of the TLS handshake.
    pub(crate) fn of_tls(error: &io::Error) -> Self {
        let inner = error.get_ref();
        let Some(tls) = inner.and_then(|error| error.downcast_ref::<rustls::Error>()) else {
            return Failure::of_io(Step::Handshake, error);
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

    /// Takes the reason out of an error of the redis crate.
    pub(crate) fn of_redis(error: &RedisError) -> Self {
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
}

/// Returns the name alone. rustls writes the names of a certificate as `DnsName("example.com")`.
fn bare(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}
