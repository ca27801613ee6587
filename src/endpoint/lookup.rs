//! Reads what one DNS server's answer says about a name.

use std::iter::successors;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// The addresses that a server knows. There may be none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub addresses: Vec<IpAddr>,
    /// The longest TTL in the chain of CNAMEs, including its end: a cache may keep a part of this answer for that long.
    pub ttl: Duration,
}

/// What a server knows: the addresses, or why there are none. The outer error says why the server gave no
/// usable answer.
pub type Knowledge = Result<Result<Found, String>, String>;

/// Reads the server's answer. The response code comes first: records beside an error are not an answer,
/// although hickory passes them on.
pub fn knowledge(
    name: &Name,
    record_type: RecordType,
    answer: Result<Lookup, NetError>,
) -> Knowledge {
    let (code, found, negative_ttl) = match answer {
        Ok(lookup) => {
            let code = lookup.message().metadata.response_code;
            (code, found(name, record_type, &lookup), None)
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(no))) => {
            (no.response_code, Found::default(), no.negative_ttl)
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => (code, Found::default(), None),
        Err(NetError::Timeout) => return Err("did not answer".to_owned()),
        // hickory says this of a connection that is refused, too.
        Err(NetError::NoConnections) => return Err("cannot be reached".to_owned()),
        Err(error) => return Err(format!("failed: {error}")),
    };
    match code {
        ResponseCode::NoError if found.addresses.is_empty() => {
            let reason = format!("has no {record_type} record");
            Ok(Err(remembered(reason, negative_ttl)))
        }
        ResponseCode::NoError => Ok(Ok(found)),
        ResponseCode::NXDomain => {
            let reason = "answered NXDOMAIN".to_owned();
            Ok(Err(remembered(reason, negative_ttl)))
        }
        code => Err(format!("answered {}", format!("{code:?}").to_uppercase())),
    }
}

/// Says how long a cache may keep that there is nothing. A name that was asked for before it existed stays unknown
/// for that long. <https://www.rfc-editor.org/rfc/rfc2308#section-5>
fn remembered(reason: String, negative_ttl: Option<u32>) -> String {
    match negative_ttl {
        Some(ttl) if ttl > 0 => format!("{reason}, and caches may repeat that for {ttl} s"),
        _ => reason,
    }
}

/// The addresses at the end of the chain of CNAMEs that begins with `name`. A record of another name or of
/// another family is not an answer.
fn found(name: &Name, record_type: RecordType, lookup: &Lookup) -> Found {
    let cname = |name: &Name| {
        let mut records = lookup
            .answers()
            .iter()
            .filter(|record| record.name == *name);
        records.find_map(|record| match &record.data {
            RData::CNAME(cname) => Some((&cname.0, record.ttl)),
            _ => None,
        })
    };
    // No chain is longer than the answer, unless it is a loop.
    let chain: Vec<_> = successors(Some((name, 0)), |(name, _)| cname(name))
        .take(lookup.answers().len())
        .collect();
    let last = chain.last().map_or(name, |(name, _)| *name);
    let answers = lookup.answers().iter();
    let answers =
        answers.filter(|record| record.name == *last && record.record_type() == record_type);
    let ttls = chain.iter().skip(1).map(|(_, ttl)| *ttl);
    let ttls = ttls.chain(answers.clone().map(|record| record.ttl));
    Found {
        ttl: Duration::from_secs(ttls.max().unwrap_or(0).into()),
        addresses: answers.filter_map(|record| record.data.ip_addr()).collect(),
    }
}
