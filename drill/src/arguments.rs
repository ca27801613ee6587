//! Parses the arguments of the command.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use lexopt::prelude::*;
use nlb_hostname_target::endpoint::Endpoint;

pub const USAGE: &str = "\
Tests a cache behind a Network Load Balancer as a client sees it, and triggers nothing.

drill --endpoint NAME --load-balancer NAME [options]

It watches the name, the targets and a connection that writes through the load balancer, until a failover
is over or Ctrl-C ends it, and prints where the failover's time went. It writes one key, drill:nlb-hostname-target,
which expires after a minute.

  --endpoint NAME          the cache's name, which the function follows
  --load-balancer NAME     the load balancer's name, or its address
  --port PORT              the port of the cache and of the load balancer (default 6379)
  --once                   tries once, names what a client hangs on, and writes nothing
  --plaintext              connects without TLS
  --server-name NAME       the name that the certificate must be for (default: the endpoint)
  --user NAME              the user whose password is in the variable CACHE_PASSWORD
  --target-group-arn ARN   watches its targets, with AWS credentials that allow DescribeTargetHealth
  --dns-server ADDRESS     asks this server, IP:PORT, for the endpoint instead of the system's
  --seconds N              stops after N seconds
  --json                   prints JSON

The exit code is 0 if a client can work (with --once) or is back (after a failover), 1 if not, and 2 if an argument is
wrong or nothing can be tested.
";

pub struct Arguments {
    pub endpoint: Endpoint,
    pub load_balancer: String,
    pub port: u16,
    pub is_once: bool,
    pub is_plaintext: bool,
    pub server_name: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub target_group_arn: Option<String>,
    pub dns_servers: Vec<SocketAddr>,
    pub limit: Option<Duration>,
    pub is_json: bool,
}

impl Arguments {
    /// Returns `None` if the user asks for help.
    ///
    /// # Errors
    /// The error says which argument is wrong or missing.
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        let (mut endpoint, mut load_balancer, mut server_name) = (None, None, None);
        let mut arguments = Arguments {
            endpoint: Endpoint::parse("endpoint").expect("a name"),
            load_balancer: String::new(),
            port: 6379,
            is_once: false,
            is_plaintext: false,
            server_name: String::new(),
            user: None,
            password: password()?,
            target_group_arn: None,
            dns_servers: Vec::new(),
            limit: None,
            is_json: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") | Short('h') => return Ok(None),
                Long("endpoint") => endpoint = Some(parser.value()?.string()?),
                Long("load-balancer") => load_balancer = Some(parser.value()?.string()?),
                Long("port") => arguments.port = parser.value()?.parse()?,
                Long("once") => arguments.is_once = true,
                Long("plaintext") => arguments.is_plaintext = true,
                Long("server-name") => server_name = Some(parser.value()?.string()?),
                Long("user") => arguments.user = Some(parser.value()?.string()?),
                Long("target-group-arn") => {
                    arguments.target_group_arn = Some(parser.value()?.string()?);
                }
                Long("dns-server") => arguments.dns_servers.push(parser.value()?.parse()?),
                Long("seconds") => {
                    arguments.limit = Some(Duration::from_secs(parser.value()?.parse()?));
                }
                Long("json") => arguments.is_json = true,
                other => return Err(other.unexpected()),
            }
        }
        let name = endpoint.ok_or("--endpoint is missing")?;
        arguments.endpoint =
            Endpoint::parse(&name).ok_or_else(|| format!("{name:?} is not a host name"))?;
        arguments.load_balancer = load_balancer.ok_or("--load-balancer is missing")?;
        arguments.server_name = server_name.unwrap_or(name);
        if arguments.user.is_some() && arguments.password.is_none() {
            return Err("--user needs a password in CACHE_PASSWORD".into());
        }
        Ok(Some(arguments))
    }
}

/// An empty password counts as none.
fn password() -> Result<Option<String>, lexopt::Error> {
    match env::var("CACHE_PASSWORD") {
        Ok(password) => Ok(Some(password).filter(|password| !password.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err("CACHE_PASSWORD is not UTF-8".into()),
    }
}
