//! Resolve: an endpoint's name to the addresses it has now. hickory-resolver is wrapped to own a
//! policy: no answer is remembered, names are absolute, the family is the target group's, every
//! wait ends, and of several DNS servers the first that knows wins.

use std::fmt;
use std::iter::successors;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use tokio::time;

/// A try, in which the query is sent again after each 333 ms; a slow server's answer to any of them
/// counts.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: usize = 2;
/// All that resolving one endpoint may take, chains of CNAMEs split over several answers and the
/// change to TCP included.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The DNS name that is followed. Lower case and absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Name);

impl Endpoint {
    /// `None` for what is no host name (RFC 1123, and the underscore that is in use), an address
    /// included.
    pub fn parse(text: &str) -> Option<Self> {
        let host = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        if !host.split('.').all(is_label) || host.rsplit('.').next().is_some_and(is_numeric) {
            return None;
        }
        let mut name = Name::from_ascii(host).ok()?.to_lowercase();
        name.set_fqdn(true);
        Some(Endpoint(name))
    }
}

/// Without trailing dot.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_ascii().trim_end_matches('.'))
    }
}

/// The target group's, fixed when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFamily {
    Ipv4,
    Ipv6,
}

impl AddressFamily {
    fn record_type(self) -> RecordType {
        match self {
            AddressFamily::Ipv4 => RecordType::A,
            AddressFamily::Ipv6 => RecordType::AAAA,
        }
    }
}

/// One resolver for each DNS server, since a second server in one resolver is no fallback: SERVFAIL
/// from the faster server beats a good answer from the other one there, and a dead first one can
/// hide a healthy second.
pub struct Resolver {
    servers: Vec<(SocketAddr, TokioResolver)>,
}

impl Resolver {
    /// Asks `dns_servers`, or those of `/etc/resolv.conf` when there are none.
    ///
    /// # Errors
    /// The cause, when the system's configuration cannot be read or names no server.
    pub fn new(dns_servers: &[SocketAddr]) -> Result<Self, String> {
        let dns_servers = match dns_servers {
            [] => system_servers()
                .map_err(|error| format!("cannot read /etc/resolv.conf: {error}"))?,
            given => given.to_vec(),
        };
        let servers = dns_servers
            .into_iter()
            .map(|server| Ok((server, resolver(server)?)));
        let servers: Result<_, NetError> = servers.collect();
        match servers {
            Ok(servers) => Ok(Resolver { servers }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The addresses of the endpoint, as the first server that knows gives them.
    ///
    /// An answer, NXDOMAIN and an empty answer are what a server knows; any other error counts only
    /// when all failed.
    ///
    /// # Errors
    /// The cause, with the server that gave it.
    pub async fn resolve(
        &self,
        endpoint: &Endpoint,
        family: AddressFamily,
    ) -> Result<Vec<IpAddr>, String> {
        time::timeout(RESOLVE_TIMEOUT, self.race(endpoint, family))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())))
    }

    async fn race(
        &self,
        endpoint: &Endpoint,
        family: AddressFamily,
    ) -> Result<Vec<IpAddr>, String> {
        let record_type = family.record_type();
        let lookups = self.servers.iter().map(async |(server, resolver)| {
            let answer = resolver.lookup(endpoint.0.clone(), record_type).await;
            (*server, answer)
        });
        let mut answers: FuturesUnordered<_> = lookups.collect();
        let mut failures = Vec::new();
        while let Some((server, answer)) = answers.next().await {
            match knowledge(&endpoint.0, record_type, answer) {
                Ok(addresses) if addresses.is_empty() => {
                    return Err(format!("{server} knows no {record_type} record"));
                }
                Ok(addresses) => return Ok(addresses),
                Err(Failure::NxDomain) => return Err(format!("{server} answered NXDOMAIN")),
                Err(Failure::Other(cause)) => failures.push(format!("{server} {cause}")),
            }
        }
        Err(failures.join(", "))
    }
}

/// Why a server gave no addresses and did not say that there are none.
enum Failure {
    NxDomain,
    Other(String),
}

/// The addresses that a server knows, perhaps none. The response's code comes first: records beside
/// an error are no answer, though hickory hands them over.
fn knowledge(
    name: &Name,
    record_type: RecordType,
    answer: Result<Lookup, NetError>,
) -> Result<Vec<IpAddr>, Failure> {
    let (code, addresses) = match answer {
        Ok(lookup) => {
            let code = lookup.message().metadata.response_code;
            (code, addresses(name, record_type, &lookup))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(no))) => (no.response_code, Vec::new()),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => (code, Vec::new()),
        Err(NetError::Timeout) => return Err(Failure::Other("did not answer".to_owned())),
        Err(error) => return Err(Failure::Other(format!("failed: {error}"))),
    };
    match code {
        ResponseCode::NoError => Ok(addresses),
        ResponseCode::NXDomain => Err(Failure::NxDomain),
        code => Err(Failure::Other(format!(
            "answered {}",
            format!("{code:?}").to_uppercase()
        ))),
    }
}

fn system_servers() -> Result<Vec<SocketAddr>, NetError> {
    let (config, _options) = system_conf::read_system_conf()?;
    let address = |server: &NameServerConfig| SocketAddr::new(server.ip, 53);
    Ok(config.name_servers().iter().map(address).collect())
}

fn resolver(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let name_server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    TokioResolver::builder_with_config(
        ResolverConfig::from_name_servers(vec![name_server]),
        TokioRuntimeProvider::default(),
    )
    .with_options(options())
    .build()
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // A remembered answer would hide a failover for the length of its TTL.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = TRY_TIMEOUT;
    options.attempts = RETRIES;
    // The chain of CNAMEs tells which records belong to the endpoint.
    options.preserve_intermediates = true;
    options
}

/// The addresses at the end of the chain of CNAMEs that begins with `name`: a record of another
/// name, or of another family, is no answer.
fn addresses(name: &Name, record_type: RecordType, lookup: &Lookup) -> Vec<IpAddr> {
    let cname = |name: &Name| {
        let mut records = lookup
            .answers()
            .iter()
            .filter(|record| record.name == *name);
        records.find_map(|record| match &record.data {
            RData::CNAME(cname) => Some(&cname.0),
            _ => None,
        })
    };
    // No chain is longer than the answer, unless it is a loop.
    let chain = successors(Some(name), |name| cname(name)).take(lookup.answers().len());
    let last = chain.last().unwrap_or(name);
    let answers = lookup.answers().iter();
    answers
        .filter(|record| record.name == *last && record.record_type() == record_type)
        .filter_map(|record| record.data.ip_addr())
        .collect()
}
