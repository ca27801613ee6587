//! Feeds the function answers from a DNS server over UDP. The input follows the query's id.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;
use nlb_hostname_target::endpoint::{Dns, Endpoint, Found};
use stand_in::dns::Source;
use stand_in::memory::Network;
use stand_in::world::{DNS_SERVER, ENDPOINT};
use tokio::time::Instant;

use super::world::{OLD, block_on, moving};

/// The limit of I8 in virtual time. Lookups that take longer than ACT are a failure.
const LATEST: Duration = Duration::from_secs(5);

/// NLB's IPv4 ranges, the default of `ALLOWED_CIDRS`.
const ALLOWED: [&str; 4] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
];

/// Checks I1: the function finds only addresses that the answer gives to the endpoint. If it finds
/// any, a whole invocation follows. tests/spec shows that an error changes nothing.
pub fn run(input: &[u8]) {
    block_on(async {
        let source = source(input);
        let begin = Instant::now();
        let resolved = resolve(source.clone()).await;
        assert!(begin.elapsed() <= LATEST, "after {:?}", begin.elapsed());
        if let Ok(found) = resolved
            && !depends_on_id(input)
        {
            let answered = answered(input);
            let found: BTreeSet<_> = found.addresses.into_iter().collect();
            assert!(!found.is_empty());
            assert!(found.is_subset(&answered), "{found:?} of {answered:?}");
            invoke(source, &found).await;
        }
    });
}

/// Makes a source that gives the same answer to everything.
fn source(input: &[u8]) -> Source {
    let input = input.to_vec();
    Source::Responder(Arc::new(move |query, _| {
        let id = query.get(..2)?;
        Some((Duration::ZERO, [id, &input].concat()))
    }))
}

/// Returns true if a name may point at the id in front of it, and so mean something else each time.
fn depends_on_id(input: &[u8]) -> bool {
    let is_pointer = |bytes: &[u8]| matches!(bytes, [0xc0, 0 | 1]);
    input.windows(2).any(is_pointer)
}

async fn resolve(source: Source) -> Result<Found, String> {
    let server = DNS_SERVER.parse().expect("an address");
    let network = Network::new([(server, source)]);
    let resolver = Dns::new(&[server], &network).resolver()?;
    let endpoint = Endpoint::parse(ENDPOINT).expect("a host name");
    resolver.resolve(&endpoint, RecordType::A).await
}

/// Checks that the group follows, or that the answer is refused and nothing changes (I1; section 3,
/// `ALLOWED_CIDRS`).
async fn invoke(source: Source, found: &BTreeSet<IpAddr>) {
    let (world, _) = moving();
    let outcome = world.function_that_asks(source).schedule().await;
    let calls = world.aws.take_calls();
    let changes: Vec<_> = calls
        .iter()
        .filter(|call| !call.targets.is_empty())
        .collect();
    let cidrs = ALLOWED.map(|cidr| cidr.parse::<IpNet>().expect("a CIDR"));
    let is_allowed = |address| cidrs.iter().any(|cidr| cidr.contains(address));
    if found.len() > 100 || !found.iter().all(is_allowed) {
        let errors = outcome.expect_err("an answer that is refused");
        assert_eq!(errors.error_type(), "AnswerRefused");
        assert!(changes.is_empty(), "{changes:?}");
        return;
    }
    let report = outcome.expect("an answer that is followed");
    let desired = report.target_groups[0].desired.iter();
    assert!(desired.map(SocketAddr::ip).eq(found.iter().copied()));
    let old: IpAddr = OLD.parse().expect("an address");
    let mut actions = changes.iter().map(|call| call.action.as_str());
    let is_deregistered = actions.any(|action| action == "DeregisterTargets");
    assert_ne!(is_deregistered, found.contains(&old));
}

/// Returns the IPv4 addresses that a good answer gives to the endpoint, or to a name that any of
/// its CNAMEs leads to.
fn answered(input: &[u8]) -> BTreeSet<IpAddr> {
    let message = Message::from_vec(&[&[0, 0], input].concat()).expect("a message");
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(!message.metadata.truncation);
    let mut names = BTreeSet::from([Name::from_ascii(ENDPOINT).expect("a name").to_lowercase()]);
    names.extend(
        message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::CNAME(cname) => Some(cname.0.to_lowercase()),
                _ => None,
            }),
    );
    let is_of_endpoint = |name: &Name| {
        let mut name = name.to_lowercase();
        names.contains(&name) || {
            name.set_fqdn(false);
            names.contains(&name)
        }
    };
    let records = message.answers.iter();
    let records = records.filter(|record| is_of_endpoint(&record.name));
    records
        .filter_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            _ => None,
        })
        .collect()
}
