//! These rules find what is wrong with a name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{error, warning};
use crate::config::Config;
use crate::diagnose::finding::Finding;
use crate::diagnose::seen::{Name, Server};
use crate::error::enumerate;
use crate::plan::MARGIN;

/// An invocation of a minute does not wait for a doubt that takes longer.
const LONGEST_DOUBT: Duration = Duration::from_secs(60);

pub(super) fn of_name(config: &Config, name: &Name<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match unresolved(name) {
        Some(finding) => findings.push(finding),
        None => {
            let is_in_part = name.servers.iter().flatten().any(answers_in_part);
            findings.extend(in_part(name, is_in_part));
            findings.extend(not_allowed(config, name));
            findings.extend(disagreement(name, is_in_part));
            findings.extend(long_ttl(name));
        }
    }
    let endpoint = name.endpoint.to_string();
    findings.iter_mut().for_each(|finding| {
        finding.endpoint = Some(endpoint.clone());
    });
    findings
}

fn unresolved(name: &Name<'_>) -> Option<Finding> {
    let (seen, mend) = match &name.servers {
        Err(cause) => (cause.clone(), "set DnsServers"),
        Ok(servers) if name.found().next().is_none() => {
            let last = |server: &Server| {
                let cause = server.why_not()?;
                Some(format!("{} {cause}", server.address))
            };
            let seen = enumerate(servers.iter().filter_map(last));
            (seen, how_to_resolve(servers))
        }
        Ok(_) => return None,
    };
    Some(error("endpoint-unresolved", seen, mend))
}

fn how_to_resolve(servers: &[Server]) -> &'static str {
    match servers.iter().any(Server::knows) {
        true => {
            "correct Endpoints; for a name that only the VPC knows, set DnsServers or attach the function with \
             VpcSubnetIds"
        }
        false => {
            "let the function reach the server on port 53 over UDP and TCP (in a VPC, its security group and the \
             server's must allow both), or repair the server or DnsServers"
        }
    }
}

/// True if the server's answer changed more than once. In a failover it changes once.
fn answers_in_part(server: &Server) -> bool {
    let answers = server.found().map(|found| &found.addresses);
    let answers: Vec<BTreeSet<_>> = answers.map(|one| one.iter().collect()).collect();
    let changes = answers.windows(2).filter(|pair| pair[0] != pair[1]);
    changes.count() > 1
}

fn in_part(name: &Name<'_>, is_in_part: bool) -> Option<Finding> {
    (is_in_part && name.misses == 0).then(|| {
        warning(
            "endpoint-answers-in-part",
            format!(
                "its answers change from lookup to lookup: {} in all",
                enumerate(name.addresses())
            ),
            "set LookupsPerReconcile to 8 and MissesBeforeDeregistration to 24; otherwise targets come and go with the answers",
        )
    })
}

fn not_allowed(config: &Config, name: &Name<'_>) -> Option<Finding> {
    let refused = |address| Some((address, config.reason_to_refuse(address)?));
    let (address, reason) = name.addresses().into_iter().find_map(refused)?;
    let mend = match is_public(address) && !config.is_kept(address) {
        // <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_VPC.WorkingWithRDSInstanceinaVPC.html#USER_VPC.Hiding>
        true => {
            "attach the function to the VPC of the database with VpcSubnetIds: there the name of a publicly accessible \
             RDS instance resolves to its private address; if this address is right, correct AllowedCidrs"
        }
        false => {
            "if the address is right, correct AllowedCidrs or KeepCidrs; if not, find out which DNS server gives this \
             answer"
        }
    };
    Some(error(
        "address-not-allowed",
        format!("{address} is {reason}"),
        mend,
    ))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10, which a VPC may have.
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0b1100_0000 == 0b0100_0000;
            let is_local = address.is_loopback() || address.is_link_local();
            !address.is_private() && !is_shared && !is_local
        }
        IpAddr::V6(_) => false,
    }
}

/// Servers whose answers take turns disagree only if they have no address in common.
fn disagreement(name: &Name<'_>, is_in_part: bool) -> Option<Finding> {
    let servers = name.servers.as_ref().ok()?;
    let (first, others) = servers.split_first()?;
    let expected = first.addresses();
    let is_same = |server: &Server| {
        let addresses = server.addresses();
        addresses == expected || (is_in_part && !addresses.is_disjoint(&expected))
    };
    if others.iter().all(is_same) {
        return None;
    }
    let one = |server: &Server| {
        let answer = match server.why_not() {
            Some(cause) if server.found().next().is_none() => cause.clone(),
            _ => format!("says {}", enumerate(server.addresses())),
        };
        format!("{} {answer}", server.address)
    };
    Some(warning(
        "dns-servers-disagree",
        enumerate(servers.iter().map(one)),
        "remove the server that is wrong or silent from DnsServers, or repair it; the function uses the first answer",
    ))
}

fn long_ttl(name: &Name<'_>) -> Option<Finding> {
    let ttl = ttl(name);
    (ttl + MARGIN > LONGEST_DOUBT).then(|| {
        warning(
            "ttl-long",
            format!("the TTL is {} s", ttl.as_secs()),
            "shorten the record's TTL, for example to 5 s: a cache may hide a failover for as long as the TTL",
        )
    })
}

pub(super) fn ttl(name: &Name<'_>) -> Duration {
    name.found()
        .map(|found| found.ttl)
        .max()
        .unwrap_or_default()
}
