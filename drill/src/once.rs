//! Tries everything once, from the name to a write, and finds what a client hangs on. A pure function
//! judges what was seen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nlb_hostname_target::endpoint::Dns;
use probe::{Attempt, Client, Finding, Findings, Problem, Severity, Step, Work, attempt, findings};
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::cache::client;
use crate::names::{EITHER, addresses, resolve};

struct Seen {
    /// The endpoint's addresses.
    endpoint: Result<BTreeSet<IpAddr>, String>,
    /// An attempt at each address of the load balancer.
    load_balancer: Result<Vec<Attempt>, String>,
}

/// Tries everything once, and judges what was seen.
///
/// # Errors
/// The error says what is wrong with an argument or this machine.
pub async fn look(arguments: &Arguments) -> Result<Findings, String> {
    let client = client(arguments)?;
    let network = TokioRuntimeProvider::default();
    let resolver = Dns::new(&arguments.dns_servers, &network).resolver()?;
    let (endpoint, load_balancer) = tokio::join!(
        resolve(&resolver, &arguments.endpoint, &EITHER),
        attempt_all(arguments, &client)
    );
    let seen = Seen {
        endpoint,
        load_balancer,
    };
    Ok(judge(arguments, &seen))
}

async fn attempt_all(arguments: &Arguments, client: &Client) -> Result<Vec<Attempt>, String> {
    let addresses = addresses(arguments).await?;
    let mut attempts = JoinSet::new();
    for address in addresses {
        attempts.spawn(attempt(address, client.clone(), Work::ReadAndWrite));
    }
    let mut attempts = attempts.join_all().await;
    attempts.sort_by_key(|attempt| attempt.address);
    Ok(attempts)
}

fn judge(arguments: &Arguments, seen: &Seen) -> Findings {
    let mut found = Vec::new();
    match &seen.endpoint {
        // Clients do not need the endpoint.
        Err(cause) => found.push(Finding {
            severity: Severity::Warning,
            ..Finding::error(
                "endpoint-unresolved",
                cause,
                "Run drill where the function runs: a name in a private hosted zone resolves only in its VPC.",
            )
        }),
        Ok(addresses) if addresses.len() > 1 => {
            let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            let seen = format!("the name answers with {}", addresses.join(", "));
            found.push(Finding {
                severity: Severity::Info,
                ..Finding::error(
                    "several-addresses",
                    seen,
                    "There is nothing to do if this is ElastiCache Serverless, which requires TLS. If it is a reader \
                     endpoint, use the primary endpoint: a reader endpoint takes no writes.",
                )
            });
        }
        Ok(_) => (),
    }
    match &seen.load_balancer {
        Err(cause) => found.push(Finding::error(
            "load-balancer-unresolved",
            cause,
            "Compare the name with the DNSName that aws elbv2 describe-load-balancers prints.",
        )),
        Ok(attempts) => found.extend(findings(attempts, |problem| mend(arguments, problem))),
    }
    Findings::new(&arguments.endpoint.to_string(), found)
}

/// Says what a client of the load balancer does about it.
fn mend(arguments: &Arguments, problem: &Problem) -> String {
    match problem {
        Problem::Refused => {
            "Check that the load balancer has a listener on this port, and that the targets use the cache's port."
        }
        Problem::Silent(Step::Connect) => {
            "Allow this machine in the load balancer's security group, and the load balancer in the cache's security \
             group. If both are allowed, check that a target is healthy: \
             sam remote invoke Function --event-file events/diagnose.json."
        }
        Problem::Silent(_) => {
            "Check that a target is healthy: sam remote invoke Function --event-file events/diagnose.json."
        }
        Problem::TlsRequired => {
            "Connect with TLS: rediss:// and not redis://, or tls: {servername}. See docs/troubleshooting.md."
        }
        Problem::PlaintextAnswered => {
            "Connect without TLS, or switch on the cache's encryption in transit."
        }
        Problem::CertificateName(names) => return server_name(arguments, names),
        Problem::CertificateAuthority => {
            "Install the system's certificates (ca-certificates), or name the authority in SSL_CERT_FILE. \
             Amazon issues ElastiCache's certificates: if its authority is installed, this is not the cache."
        }
        Problem::CertificateInvalid => {
            "Check the certificate (openssl s_client -connect HOST:PORT -servername NAME) and this machine's clock."
        }
        Problem::AuthRequired => "Give the password, here in the variable CACHE_PASSWORD.",
        Problem::AuthWrong => {
            "Give the right password, and the user that it belongs to with --user."
        }
        Problem::AuthNeedless => "Give no password: the cache has none.",
        Problem::NotPermitted => {
            "Allow the user to read and write keys that begin with drill: for this test."
        }
        Problem::ReadOnly => {
            "If there was a failover in the last minutes, wait. If not, the name belongs to a replica: use the primary \
             endpoint."
        }
        Problem::Moved => {
            "A cache in cluster mode redirects clients to its nodes, past the load balancer. Connect without a load \
             balancer, or switch cluster mode off."
        }
        Problem::Failed => "drill has no advice for this error. See docs/troubleshooting.md.",
    }
    .to_owned()
}

/// Says which server name to set.
fn server_name(arguments: &Arguments, names: &[String]) -> String {
    let endpoint = arguments.endpoint.to_string();
    let covers = |name: &String| match name.strip_prefix("*.") {
        Some(parent) => endpoint
            .split_once('.')
            .is_some_and(|(_, rest)| rest == parent),
        None => *name == endpoint,
    };
    match names.iter().any(covers) {
        true => format!("Set the server name to {endpoint}."),
        false => "If this is the cache, set the server name to a name that its certificate is for. If not, the load balancer \
                  leads to another server."
            .to_owned(),
    }
}
