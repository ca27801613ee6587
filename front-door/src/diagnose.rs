//! Finds what a request would hang on: the name, the port, TLS, the login, the role of the node, several shards. It
//! changes nothing in the cache.

use std::net::SocketAddr;
use std::time::Duration;

use probe::{Attempt, Client, Failure, Finding, Findings, Problem, Step, Work, attempt, findings};
use serde_json::Value as Json;
use tokio::join;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::commands::Role;
use crate::config::{Authentication, CacheConfig};
use crate::error::Error;

/// Together these are less than the function's `Timeout` of 10 s.
const RESOLVED_WITHIN: Duration = Duration::from_secs(2);
const LOGIN_WITHIN: Duration = Duration::from_secs(2);
const ATTEMPTED_WITHIN: Duration = Duration::from_secs(7);

/// True if the event asks for a diagnosis. Only those who may invoke the function can ask for it: a client's request is
/// inside an event of a function URL or of AppSync.
pub fn is_diagnose(event: &Json) -> bool {
    let asked = event.get("diagnose");
    let is_asked = asked.is_some_and(|asked| !matches!(asked, Json::Null | Json::Bool(false)));
    is_asked && event.get("requestContext").is_none() && event.get("info").is_none()
}

/// An invalid configuration is the only finding, because nothing else can be diagnosed with it.
pub fn config_invalid(invalid: &Error) -> Findings {
    let mend = "Correct the parameter, and deploy the stack again.";
    Findings {
        findings: vec![Finding::error("config-invalid", invalid.to_string(), mend)],
    }
}

/// Connects as requests do, at each address of the endpoint and as each user, and judges what came of it.
pub async fn diagnose(config: &CacheConfig, cache: &Cache) -> Findings {
    let work: &[(Role, Work)] = match &config.authentication {
        Authentication::Iam(_) => &[
            (Role::Writer, Work::ReadAndWrite),
            (Role::Reader, Work::Read),
        ],
        Authentication::Secret(_) | Authentication::None => &[(Role::Writer, Work::ReadAndWrite)],
    };
    let (addresses, clients) = join!(resolve(config), clients(cache, work));
    let (clients, mut found) = clients;
    let is_login_known = found.is_empty();
    match addresses {
        Err(cause) => found.push(Finding::error(
            "endpoint-unresolved",
            cause,
            "Correct Endpoint. If only another VPC or another DNS server knows the name, let the function's VPC resolve it.",
        )),
        Ok(addresses) => {
            let attempts = attempt_all(&addresses, clients).await;
            let of_cache = findings(&attempts, |problem| mend(config, problem));
            // A function that does not know its password gives none.
            let is_new = |finding: &Finding| is_login_known || finding.id != "auth-required";
            found.extend(of_cache.into_iter().filter(is_new));
        }
    }
    Findings::new(&config.endpoint.to_str(), found)
}

async fn resolve(config: &CacheConfig) -> Result<Vec<SocketAddr>, String> {
    let endpoint = config.endpoint.to_str();
    let found = timeout(RESOLVED_WITHIN, lookup_host((&*endpoint, config.port))).await;
    let found = found.map_err(|_| format!("no answer in {} s", RESOLVED_WITHIN.as_secs()))?;
    let found: Vec<_> = found.map_err(|error| error.to_string())?.collect();
    match found.is_empty() {
        true => Err("the name has no address".to_owned()),
        false => Ok(found),
    }
}

/// Returns a client for each role, and why one has no login.
async fn clients(cache: &Cache, work: &[(Role, Work)]) -> (Vec<(Client, Work)>, Vec<Finding>) {
    let (mut clients, mut found) = (Vec::new(), Vec::new());
    for (role, work) in work {
        let client = timeout(LOGIN_WITHIN, cache.client(*role)).await;
        let late = |_| {
            let seconds = LOGIN_WITHIN.as_secs();
            Err(format!("Secrets Manager did not answer in {seconds} s"))
        };
        let client = client.unwrap_or_else(late).unwrap_or_else(|cause| {
            let mend = "Correct SecretArn, let the function's subnets reach Secrets Manager (by NAT, or by its interface \
                        endpoint), and give SecretKmsKeyArn if the key is your own.";
            found.push(Finding::error("login-unavailable", cause, mend));
            cache.anonymous()
        });
        clients.push((client, *work));
    }
    (clients, found)
}

async fn attempt_all(addresses: &[SocketAddr], clients: Vec<(Client, Work)>) -> Vec<Attempt> {
    let mut attempts = JoinSet::new();
    for (client, work) in clients {
        for address in addresses {
            attempts.spawn(attempt_in_time(*address, client.clone(), work));
        }
    }
    let mut attempts = attempts.join_all().await;
    attempts.sort_by_key(|attempt| (attempt.address, attempt.user.clone()));
    attempts
}

/// Each step has its own limit. Many slow ones would take longer than the function may.
async fn attempt_in_time(address: SocketAddr, client: Client, work: Work) -> Attempt {
    let late = Attempt {
        address,
        user: client.user.clone(),
        is_plaintext: client.tls.is_none(),
        outcome: Err(Failure::Silent(Step::Command)),
        other_way: None,
    };
    let attempted = timeout(ATTEMPTED_WITHIN, attempt(address, client, work));
    attempted.await.unwrap_or(late)
}

/// Says what the owner of the deployment does about it, by the names of the template's parameters.
fn mend(config: &CacheConfig, problem: &Problem) -> String {
    match problem {
        Problem::Refused => "Correct Port. Nothing listens on this one.",
        Problem::Silent(Step::Connect) => {
            "Check that CacheSecurityGroupId is a security group of the cache, and that VpcSubnetIds reach its subnets."
        }
        Problem::Silent(_) => {
            "Check that the cache is available: aws elasticache describe-replication-groups."
        }
        Problem::TlsRequired => "Set Tls to true.",
        Problem::PlaintextAnswered => {
            "Switch on the cache's encryption in transit. If the cache asks for no password, you can also set Tls to \
             false and Authentication to NONE."
        }
        Problem::CertificateName(_) => {
            "Set Endpoint to the primary endpoint itself. The certificate is not for a name of your own."
        }
        Problem::CertificateAuthority => {
            "Correct Endpoint. Amazon issues ElastiCache's certificates and the function trusts it, so this is another \
             server."
        }
        Problem::CertificateInvalid => {
            "Check the certificate from inside the VPC: openssl s_client -connect HOST:PORT -servername HOST."
        }
        Problem::AuthRequired => "Set Authentication to IAM, or to SECRET.",
        Problem::AuthWrong => match &config.authentication {
            Authentication::Iam(_) => {
                "Compare CacheName, ReaderUser and WriterUser with the cache: the ID of the replication group, and two \
                 users with IAM authentication in its user group. If a permissions boundary limits the function's role, it \
                 must allow elasticache:Connect on all three."
            }
            Authentication::Secret(_) | Authentication::None => {
                "Correct the password or the user's name in the secret."
            }
        },
        Problem::AuthNeedless => "Set Authentication to NONE. The cache has no password.",
        Problem::NotPermitted => {
            "Give the user the access string of docs/front-door.md. If its rights end at some keys, add ~drill:*, which \
             nobody uses but this diagnosis."
        }
        Problem::ReadOnly => {
            "If there was a failover in the last minutes, wait. If not, set Endpoint to the primary endpoint: a reader \
             endpoint takes no writes."
        }
        Problem::Moved => {
            "Use a cache with one shard, or with cluster mode disabled. The front door follows no redirection."
        }
        Problem::Failed => "There is no advice for this error. See docs/front-door.md.",
    }
    .to_owned()
}
