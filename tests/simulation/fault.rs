//! Lists what can go wrong on the way, with a call to AWS or with a question to DNS. To add a fault, add one line to
//! one of the tables. The fault is then drawn, played and counted, and a full run has to meet it often enough.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use bytes::Bytes;
use hickory_resolver::proto::op::ResponseCode;
use http::{HeaderMap, StatusCode};
use stand_in::aws::Fault;
use stand_in::dns::{Answer, Forgery};

/// The fault of a call, as its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallFault(usize);

/// The fault of a question, as its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsFault(usize);

/// The time from a call to its arrival, in milliseconds.
const QUICK: Range<u64> = 1..30;
const SLOW: Range<u64> = 300..2400;

/// The name of a fault, how long the call takes to arrive, and what becomes of it there. If a fault can go wrong in two
/// ways, a coin decides.
type OfCall = (
    &'static str,
    Range<u64>,
    fn(&dyn Fn() -> bool) -> Option<Fault>,
);
/// The name of a fault, and what a question for a name gets.
type OfQuestion = (&'static str, fn(&str) -> Instead);

const OF_CALLS: [OfCall; 8] = [
    ("Throttled", QUICK, |_| {
        Some(Fault::Error(400, "Throttling", "Rate exceeded"))
    }),
    ("Unavailable", QUICK, |_| {
        let message = "Service is unavailable";
        Some(Fault::Error(503, "ServiceUnavailable", message))
    }),
    ("Garbage", QUICK, |_| {
        Some(Fault::Garbage(200, "<html>gateway</html>"))
    }),
    // A proxy may send status 200 or 204 without a body.
    ("Empty", QUICK, |coin| {
        let status = if coin() {
            StatusCode::OK
        } else {
            StatusCode::NO_CONTENT
        };
        Some(Fault::Raw(status, HeaderMap::new(), Bytes::new()))
    }),
    ("Reset", QUICK, |_| Some(Fault::Reset)),
    ("Hang", QUICK, |_| Some(Fault::Hang)),
    ("LostAnswer", QUICK, |_| Some(Fault::LostAnswer)),
    ("Slow", SLOW, |_| None),
];

/// The reply to a question that goes wrong.
pub enum Instead {
    Answer(Answer),
    /// The cache's answer comes late.
    Late,
    /// The cache's answer comes late, because the cache itself got it late. The cache keeps it from then on.
    LateUpstream,
}

const OF_QUESTIONS: [OfQuestion; 15] = [
    ("NxDomain", |_| Instead::Answer(Answer::NxDomain)),
    ("ServFail", |_| Instead::Answer(Answer::ServFail)),
    ("Refused", |_| Instead::Answer(Answer::Refused)),
    ("Empty", |_| Instead::Answer(Answer::Empty)),
    ("Silent", |_| Instead::Answer(Answer::Silent)),
    ("Late", |_| Instead::Late),
    ("LateUpstream", |_| Instead::LateUpstream),
    ("Truncated", |_| {
        Instead::Answer(Answer::Truncated(Box::new(Answer::ServFail)))
    }),
    ("WrongId", |name| {
        let answer = records(&[(name, "10.0.66.6")]);
        Instead::Answer(Answer::Forged(Forgery::Id, Box::new(answer)))
    }),
    ("Garbage", |_| Instead::Answer(Answer::Garbage)),
    ("Forbidden", |name| {
        Instead::Answer(records(&[(name, "8.8.8.8"), (name, "fe80::8")]))
    }),
    ("PartlyForbidden", |name| {
        Instead::Answer(records(&[
            (name, "10.0.66.6"),
            (name, "169.254.169.254"),
            (name, "2001:db8::66"),
            (name, "fe80::1"),
        ]))
    }),
    ("AnotherName", |_| {
        Instead::Answer(records(&[
            ("evil.example.com", "10.0.66.6"),
            ("evil.example.com", "2001:db8::66"),
        ]))
    }),
    ("TooMany", |_| Instead::Answer(many(101))),
    ("CnameLoop", |name| {
        Instead::Answer(Answer::Cname {
            ttl: 1,
            target: name.to_owned(),
            is_split: false,
        })
    }),
];

impl CallFault {
    pub fn all() -> Vec<CallFault> {
        (0..OF_CALLS.len()).map(CallFault).collect()
    }

    /// Returns the time from a call to its arrival in milliseconds, also for a call without a fault.
    pub fn delay(fault: Option<CallFault>) -> Range<u64> {
        fault.map_or(QUICK, |fault| OF_CALLS[fault.0].1.clone())
    }

    /// Returns what becomes of the call when it has arrived.
    pub fn injected(self, coin: &dyn Fn() -> bool) -> Option<Fault> {
        OF_CALLS[self.0].2(coin)
    }

    pub fn is_lost_answer(self) -> bool {
        self.injected(&|| true) == Some(Fault::LostAnswer)
    }
}

impl DnsFault {
    pub fn all() -> Vec<DnsFault> {
        (0..OF_QUESTIONS.len()).map(DnsFault).collect()
    }

    pub fn instead(self, name: &str) -> Instead {
        OF_QUESTIONS[self.0].1(name)
    }

    /// True if the answer does not fit into a datagram.
    pub fn is_too_long(self) -> bool {
        let addresses = match self.instead("") {
            Instead::Answer(Answer::Addresses { addresses, .. }) => addresses.len(),
            _ => 0,
        };
        addresses > 100
    }
}

impl fmt::Debug for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OF_CALLS[self.0].0)
    }
}

impl fmt::Debug for DnsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OF_QUESTIONS[self.0].0)
    }
}

fn records(records: &[(&str, &str)]) -> Answer {
    let record = |(name, address): &(&str, &str)| {
        let address = address.parse().expect("an address");
        ((*name).to_owned(), address)
    };
    Answer::Records(ResponseCode::NoError, records.iter().map(record).collect())
}

/// Returns `count` addresses of each family.
fn many(count: u8) -> Answer {
    let addresses = |last| {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 0, 0, 0, u16::from(last));
        [Ipv4Addr::new(10, 0, 9, last).into(), v6.into()]
    };
    Answer::Addresses {
        ttl: 1,
        addresses: (0..count).flat_map(addresses).collect(),
    }
}
