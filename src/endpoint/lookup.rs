//! What one DNS server's answer says about a name.

use std::iter::successors;
use std::net::IpAddr;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// Why a server gave no addresses and did not say that there are none.
pub enum Failure {
    NxDomain,
    Other(String),
}

/// The addresses that a server knows, perhaps none. The response's code comes first: records beside
/// an error are no answer, though hickory hands them over.
pub fn knowledge(
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
