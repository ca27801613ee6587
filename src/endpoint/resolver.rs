//! Resolves an endpoint to the addresses it has now. It wraps hickory-resolver to own a policy:
//! no answer is remembered, names are absolute, the family is the target group's, every wait ends, and the
//! first DNS server that knows the answer wins.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::RuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf;

use super::lookup::{Found, Knowledge, knowledge};
use super::name::Endpoint;

/// The limit for one try. Within it the query is sent again every 333 ms, and a slow server's answer to any
/// of these queries counts.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: usize = 2;
/// Unbound has the same limit. A longer TTL is a mistake, or is meant to keep a change in doubt forever.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Each DNS server has a resolver of its own, because a second server in one resolver is not a fallback.
/// SERVFAIL from the faster server beats a good answer from the other one there, and a dead first server can
/// hide a healthy second one.
pub struct Resolver<P: RuntimeProvider> {
    servers: Vec<Server<P>>,
}

struct Server<P: RuntimeProvider> {
    address: SocketAddr,
    network: P,
    over_udp: hickory_resolver::Resolver<P>,
}

/// The DNS servers, and the network over which they are asked.
pub struct Dns<'a, P> {
    /// The error says why there are no servers.
    servers: Result<Vec<SocketAddr>, String>,
    network: &'a P,
}

impl<'a, P: RuntimeProvider> Dns<'a, P> {
    /// Uses `dns_servers`, or the servers that `/etc/resolv.conf` names now if there are none.
    pub fn new(dns_servers: &[SocketAddr], network: &'a P) -> Self {
        let servers = match dns_servers {
            [] => {
                system_servers().map_err(|error| format!("cannot read /etc/resolv.conf: {error}"))
            }
            given => Ok(given.to_vec()),
        };
        Dns { servers, network }
    }

    /// Makes a resolver that shares nothing with an earlier one.
    ///
    /// # Errors
    /// Returns the cause if the system's configuration cannot be read or names no server.
    pub fn resolver(&self) -> Result<Resolver<P>, String> {
        let servers = self.servers.as_ref().map_err(String::clone)?.iter();
        let servers = servers.map(|address| Server::new(*address, self.network.clone()));
        let servers: Result<_, NetError> = servers.collect();
        match servers {
            Ok(servers) => Ok(Resolver { servers }),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl<P: RuntimeProvider> Server<P> {
    fn new(address: SocketAddr, network: P) -> Result<Self, NetError> {
        let over_udp = resolver(address, ConnectionConfig::udp(), 0, network.clone())?;
        Ok(Server {
            address,
            network,
            over_udp,
        })
    }

    /// Asks over UDP, and over TCP as soon as an answer did not fit into a datagram. One resolver with both would do
    /// that too, but its error says only how the second one ended.
    async fn ask(&self, endpoint: &Endpoint, record_type: RecordType) -> Knowledge {
        let Endpoint(name) = endpoint;
        let mut retries = RETRIES;
        loop {
            let answer = self.over_udp.lookup(name.clone(), record_type).await;
            if matches!(answer, Err(NetError::Truncated)) {
                return self.ask_over_tcp(endpoint, record_type).await;
            }
            let known = knowledge(name, record_type, answer);
            if known.is_ok() || retries == 0 {
                return known;
            }
            retries -= 1;
        }
    }

    async fn ask_over_tcp(&self, endpoint: &Endpoint, record_type: RecordType) -> Knowledge {
        let Endpoint(name) = endpoint;
        let tcp = ConnectionConfig::tcp();
        let answer = match resolver(self.address, tcp, RETRIES, self.network.clone()) {
            Ok(over_tcp) => over_tcp.lookup(name.clone(), record_type).await,
            Err(error) => Err(error),
        };
        let known = knowledge(name, record_type, answer);
        known.map_err(|cause| format!("truncated its answer over UDP, and over TCP it {cause}"))
    }
}

impl<P: RuntimeProvider> Resolver<P> {
    /// Resolves the endpoint. The first server that knows something about it wins.
    ///
    /// A server knows something if it gives an answer, NXDOMAIN or an empty answer. Any other error counts
    /// only if all servers failed.
    ///
    /// # Errors
    /// Returns the cause, with the server that gave it.
    pub async fn resolve(
        &self,
        endpoint: &Endpoint,
        record_type: RecordType,
    ) -> Result<Found, String> {
        let mut answers = self.ask(endpoint, record_type);
        let mut failures = Vec::new();
        while let Some((server, known)) = answers.next().await {
            match known {
                Ok(known) => return known.map_err(|reason| format!("{server} {reason}")),
                Err(cause) => failures.push(format!("{server} {cause}")),
            }
        }
        Err(failures.join(", "))
    }

    /// What each server knows.
    pub async fn resolve_everywhere(
        &self,
        endpoint: &Endpoint,
        record_type: RecordType,
    ) -> Vec<(SocketAddr, Knowledge)> {
        let mut answers: Vec<_> = self.ask(endpoint, record_type).collect().await;
        answers.sort_by_key(|(server, _)| *server);
        answers
    }

    /// Asks all servers. Their answers come in the order in which the servers answer, as [`knowledge`] reads them.
    fn ask(
        &self,
        endpoint: &Endpoint,
        record_type: RecordType,
    ) -> FuturesUnordered<impl Future<Output = (SocketAddr, Knowledge)>> {
        let servers = self.servers.iter();
        let lookups = servers.map(|server| async move {
            let known = server.ask(endpoint, record_type).await;
            (server.address, known)
        });
        lookups.collect()
    }
}

fn system_servers() -> Result<Vec<SocketAddr>, NetError> {
    let (config, _options) = system_conf::read_system_conf()?;
    let address = |server: &NameServerConfig| SocketAddr::new(server.ip, 53);
    Ok(config.name_servers().iter().map(address).collect())
}

fn resolver<P: RuntimeProvider>(
    server: SocketAddr,
    mut connection: ConnectionConfig,
    retries: usize,
    network: P,
) -> Result<hickory_resolver::Resolver<P>, NetError> {
    connection.port = server.port();
    let name_server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![name_server]);
    hickory_resolver::Resolver::builder_with_config(config, network)
        .with_options(options(retries))
        .build()
}

fn options(retries: usize) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // A remembered answer would hide a failover for the length of its TTL.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = TRY_TIMEOUT;
    options.attempts = retries;
    options.positive_max_ttl = Some(MAX_TTL);
    // The chain of CNAMEs shows which records belong to the endpoint.
    options.preserve_intermediates = true;
    options
}
