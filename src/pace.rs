//! How fast an invocation may go, shared by its loops. Elastic Load Balancing's token buckets belong to
//! the whole account and Region: 40 reads refilled at 10 a second, and 20 registrations, of either kind,
//! refilled at 4 a second. Other tools live from them too, most of all while a zone fails, so that an
//! invocation takes a part of them, and less of it once a call was refused.
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
    /// The last invocation had no turn for it.
    LeftOver,
    /// The plan that was held back is to be applied.
    Believed,
    /// Something changed or failed since the last description.
    Changed,
    /// Nothing was ever described.
    Unknown,
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registration {
    /// Of two calls this one makes clients whole.
    Register,
    Deregister,
}

/// Lent to all loops of one invocation.
pub struct Pace {
    pub reads: Queue<Read>,
    pub registrations: Queue<Registration>,
    /// The VPC's resolver drops what is above 1,024 packets a second for each network interface.
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
