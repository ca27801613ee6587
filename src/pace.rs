//! The pace says how fast an invocation may send calls. All its loops share it. Elastic Load Balancing's token
//! buckets belong to the whole account and Region: a bucket of 40 reads is refilled at 10 a second, and a bucket
//! of 20 registers and deregisters together is refilled at 4 a second. Other tools use these buckets too, most
//! of all while a zone fails. So an invocation takes only a part of them, and less once a call was refused.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

mod queue;
mod slots;

pub use queue::{Place, Queue, Turn};
use slots::Slots;

/// What a read is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// The endpoint has an address that the last description lacks.
    Moved,
    /// The last invocation ended before this read had its turn.
    LeftOver,
    /// The plan that was held back can be applied now.
    Believed,
    /// Something changed or failed since the last description.
    Changed,
    /// The group has never been described.
    Unknown,
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registration {
    /// This call goes first, because it gives clients a target that serves.
    Register,
    Deregister,
}

/// The pace of one invocation, which is lent to all its loops.
pub struct Pace {
    pub reads: Queue<Read>,
    pub registrations: Queue<Registration>,
    /// The VPC resolver drops packets above 1,024 a second for each network interface.
    /// <https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html#vpc-dns-limits>
    pub lookups: Queue<()>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            reads: Queue::new(Slots::new(20, 5)),
            registrations: Queue::new(Slots::new(16, 3)).sparing(Registration::Deregister),
            lookups: Queue::new(Slots::new(200, 200)),
        }
    }
}
