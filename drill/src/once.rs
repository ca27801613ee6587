//! Tries everything once, from the name to a write, and finds what a client hangs on. A pure function
//! judges what was seen.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nlb_hostname_target::diagnose::{Finding, Findings, Severity};
use nlb_hostname_target::endpoint::Dns;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::cache::{Client, Failure, Step};
use crate::names::{EITHER, addresses, resolve};

struct Seen {
    /// The endpoint's addresses.
    endpoint: Result<BTreeSet<IpAddr>, String>,
    /// The outcome at each address of the load balancer.
    load_balancer: Result<Vec<At>, String>,
}

/// The outcome of a try at one address.
struct At {
    address: SocketAddr,
    outcome: Result<(), Failure>,
    /// The same try with TLS if none was asked for, and without TLS if it was. It is made only if the client got
    /// nowhere.
    other_way: Option<Result<(), Failure>>,
}

/// Tries everything once, and judges what was seen.
///
/// # Errors
/// The error says what is wrong with an argument or this machine.
pub async fn look(arguments: &Arguments) -> Result<Findings, String> {
    let client = Client::new(arguments)?;
    let network = TokioRuntimeProvider::default();
    let resolver = Dns::new(&arguments.dns_servers, &network).resolver()?;
    let (endpoint, load_balancer) = tokio::join!(
        resolve(&resolver, &arguments.endpoint, &EITHER),
        look_at_all(arguments, &client)
    );
    let seen = Seen {
        endpoint,
        load_balancer,
    };
    Ok(judge(arguments, &seen))
}

/// Returns true if there is no error among the findings, so that a client can work.
pub fn is_sound(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.severity != Severity::Error)
}

async fn look_at_all(arguments: &Arguments, client: &Client) -> Result<Vec<At>, String> {
    let addresses = addresses(arguments).await?;
    // A machine that trusts no authority cannot try TLS, and need not.
    let other = match arguments.is_plaintext {
        true => client.with_tls(&arguments.server_name).ok(),
        false => Some(client.without_tls()),
    };
    let mut looks = JoinSet::new();
    for address in addresses {
        looks.spawn(look_at(address, client.clone(), other.clone()));
    }
    let mut seen = looks.join_all().await;
    seen.sort_by_key(|at| at.address);
    Ok(seen)
}

async fn look_at(address: SocketAddr, client: Client, other: Option<Client>) -> At {
    let outcome = work(address, &client).await;
    let got_nowhere = matches!(
        outcome,
        Err(Failure::NotTls
            | Failure::Silent(Step::Handshake | Step::Command)
            | Failure::Closed(_)
            | Failure::Other(Step::Handshake, _))
    );
    let other_way = match other.filter(|_| got_nowhere) {
        Some(other) => Some(speak(address, &other).await),
        None => None,
    };
    At {
        address,
        outcome,
        other_way,
    }
}

/// Does what a client does.
async fn work(address: SocketAddr, client: &Client) -> Result<(), Failure> {
    let mut connection = client.connect(address).await?;
    // A cache that is not in cluster mode answers the question for its shards with an error.
    match connection.write(0).await {
        Ok(()) => match connection.shards().await {
            Ok(shards @ 2..) => {
                let message = format!("the cache has {shards} shards in cluster mode");
                Err(Failure::Error("MOVED".to_owned(), message))
            }
            Ok(_) | Err(_) => Ok(()),
        },
        // A replica sends writes to its primary in the same way.
        Err(Failure::Error(code, message)) if code == "MOVED" => {
            let code = match connection.shards().await {
                Ok(1) => "READONLY".to_owned(),
                Ok(_) | Err(_) => code,
            };
            Err(Failure::Error(code, message))
        }
        Err(failure) => Err(failure),
    }
}

/// Sends PING before any password, to see if the other side answers this client at all.
async fn speak(address: SocketAddr, client: &Client) -> Result<(), Failure> {
    client.open(address).await?.ping().await
}

fn judge(arguments: &Arguments, seen: &Seen) -> Findings {
    let mut findings = Vec::new();
    match &seen.endpoint {
        // Clients do not need the endpoint.
        Err(cause) => findings.push(Finding {
            severity: Severity::Warning,
            ..finding(
                "endpoint-unresolved",
                cause.clone(),
                "Run drill where the function runs: a name in a private hosted zone resolves only in its VPC.",
            )
        }),
        Ok(addresses) if addresses.len() > 1 => {
            let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            let seen = format!("the name answers with {}", addresses.join(", "));
            findings.push(Finding {
                severity: Severity::Info,
                ..finding(
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
        Err(cause) => findings.push(finding(
            "load-balancer-unresolved",
            cause.clone(),
            "Compare the name with the DNSName that aws elbv2 describe-load-balancers prints.",
        )),
        Ok(all) => findings.extend(of_addresses(arguments, all)),
    }
    findings.sort_by_key(|finding| finding.severity);
    for finding in &mut findings {
        finding.endpoint = Some(arguments.endpoint.to_string());
    }
    Findings { findings }
}

/// Makes one finding for all addresses at which the same is wrong.
fn of_addresses(arguments: &Arguments, all: &[At]) -> Vec<Finding> {
    let mut found: Vec<(Finding, Vec<String>)> = Vec::new();
    for at in all {
        let Some(finding) = of_address(arguments, at) else {
            continue;
        };
        let address = at.address.to_string();
        match found.iter_mut().find(|(known, _)| *known == finding) {
            Some((_, addresses)) => addresses.push(address),
            None => found.push((finding, vec![address])),
        }
    }
    let with_address = |(finding, addresses): (Finding, Vec<String>)| Finding {
        seen: format!("{}: {}", addresses.join(", "), finding.seen),
        ..finding
    };
    found.into_iter().map(with_address).collect()
}

fn of_address(arguments: &Arguments, at: &At) -> Option<Finding> {
    let failure = at.outcome.as_ref().err()?;
    let seen = failure.to_string();
    let answered =
        match &at.other_way {
            None => None,
            Some(Ok(())) => Some("PONG".to_owned()),
            Some(Err(Failure::Error(code, _))) => Some(code.clone()),
            // The other side speaks TLS, whatever its certificate is worth.
            Some(Err(
                Failure::OtherName(_) | Failure::OtherAuthority | Failure::Certificate(_),
            )) if arguments.is_plaintext => Some("its certificate".to_owned()),
            Some(Err(_)) => None,
        };
    Some(match (answered, failure) {
        (Some(answer), _) if arguments.is_plaintext => finding(
            "tls-required",
            format!("{seen}; with TLS it answers {answer}"),
            "Connect with TLS: rediss:// and not redis://, or tls: {servername}. See docs/troubleshooting.md.",
        ),
        (Some(answer), _) => finding(
            "plaintext-answered",
            format!("{seen}; without TLS it answers {answer}"),
            "Connect without TLS, or switch on the cache's encryption in transit.",
        ),
        (None, Failure::Refused) => finding(
            "refused",
            seen,
            "Check that the load balancer has a listener on this port, and that the targets use the cache's port.",
        ),
        (None, Failure::Silent(Step::Connect)) => finding(
            "silent",
            seen,
            "Allow this machine in the load balancer's security group, and the load balancer in the cache's security \
             group. If both are allowed, check that a target is healthy: \
             sam remote invoke Function --event-file events/diagnose.json.",
        ),
        (None, Failure::Silent(_) | Failure::Closed(_)) => finding(
            "silent",
            seen,
            "Check that a target is healthy: sam remote invoke Function --event-file events/diagnose.json.",
        ),
        (None, Failure::OtherName(names)) => {
            finding("certificate-name", seen, &server_name(arguments, names))
        }
        (None, Failure::OtherAuthority) => finding(
            "certificate-authority",
            seen,
            "Install the system's certificates (ca-certificates), or name the authority in SSL_CERT_FILE. \
             Amazon issues ElastiCache's certificates: if its authority is installed, this is not the cache.",
        ),
        (None, Failure::Certificate(_)) => finding(
            "certificate-invalid",
            seen,
            "Check the certificate (openssl s_client -connect HOST:PORT -servername NAME) and this machine's clock.",
        ),
        (None, Failure::Error(code, _)) => of_error(code, seen),
        (None, Failure::NotTls | Failure::Other(..)) => finding(
            "failed",
            seen,
            "drill has no advice for this error. See docs/troubleshooting.md.",
        ),
    })
}

fn of_error(code: &str, seen: String) -> Finding {
    let (id, mend) = match code {
        "NOAUTH" => (
            "auth-required",
            "Give the password, here in the variable CACHE_PASSWORD.",
        ),
        "WRONGPASS" => (
            "auth-wrong",
            "Give the right password, and the user that it belongs to with --user.",
        ),
        // Redis 6 and later say the first, and Redis 5 says the second.
        "ERR" if seen.contains("without any password") || seen.contains("no password is set") => {
            ("auth-wrong", "Give no password: the cache has none.")
        }
        "ERR" if seen.contains("invalid password") => ("auth-wrong", "Give the right password."),
        "READONLY" => (
            "readonly",
            "If there was a failover in the last minutes, wait. If not, the name belongs to a replica: use the primary endpoint.",
        ),
        "MOVED" => (
            "moved",
            "A cache in cluster mode redirects clients to its nodes, past the load balancer. Connect without a load \
             balancer, or switch cluster mode off.",
        ),
        "NOPERM" => (
            "not-permitted",
            "Allow the user to write keys that begin with drill: for this test.",
        ),
        _ => (
            "failed",
            "drill has no advice for this error. See docs/troubleshooting.md.",
        ),
    };
    finding(id, seen, mend)
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

fn finding(id: &'static str, seen: String, mend: &str) -> Finding {
    Finding {
        id,
        severity: Severity::Error,
        target_group_arn: None,
        endpoint: None,
        seen,
        mend: mend.to_owned(),
    }
}
