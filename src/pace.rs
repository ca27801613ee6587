//! The pace says how fast an invocation may send calls. All its loops share it. Elastic Load Balancing's token
//! buckets belong to the whole account and Region: a bucket of 40 reads is refilled at 10 a second, and a bucket
//! of 20 registers and deregisters together is refilled at 4 a second. Other tools use these buckets too, most
//! of all while a zone fails. So an invocation takes only a part of them, and less once a call was refused.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

mod door;
mod slots;

pub use door::{Door, Turn, Urgency};
use slots::Slots;

const READS_AT_FIRST: usize = 20;
const READS_PER_SECOND: u32 = 5;
/// How many reads an invocation has in its first 10 s.
pub const READS_IN_10_SECONDS: usize = READS_AT_FIRST + 10 * READS_PER_SECOND as usize;

/// The pace of one invocation, which is lent to all its loops.
pub struct Pace {
    pub reads: Door,
    /// Registers are urgent here, because they give clients a target that serves.
    pub registrations: Door,
    /// The VPC resolver drops packets above 1,024 a second for each network interface.
    /// <https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html#vpc-dns-limits>
    pub lookups: Door,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            reads: Door::new(Slots::new(READS_AT_FIRST, READS_PER_SECOND)),
            registrations: Door::new(Slots::new(16, 3)),
            lookups: Door::new(Slots::new(200, 200)),
        }
    }
}
