//! Chooses the settled groups that the first reconcile of an invocation describes. The same rule serves a fleet of any
//! size: up to 70 groups are all described in each invocation, and 500 within 8.

use super::Lent;
use crate::pace::READS_IN_10_SECONDS;

/// Leaves out the settled groups for which there is no read. Groups that are not settled are described in any case, as
/// are this many `others`. At least half of the reads go to settled groups, because the others may fail before they need
/// a read, in every invocation. At most half of them go to groups that no healthy target serves, and the rest to the
/// groups whose turn was longest ago.
pub(super) fn sweep(lent: &mut [Lent<'_>], others: usize) {
    let unsettled = lent.iter().filter(|one| !one.remembered.is_settled());
    let half = READS_IN_10_SECONDS / 2;
    let reads = READS_IN_10_SECONDS.saturating_sub(others + unsettled.count());
    let mut reads = reads.max(half);
    let settled = lent.iter_mut().filter(|one| one.remembered.is_settled());
    let mut settled: Vec<_> = settled.collect();
    settled.sort_by_key(|one| one.remembered.swept_at());
    for one in &mut settled {
        one.is_described = false;
    }
    let first = reads.min(half);
    let unserved = settled.iter_mut().filter(|one| !one.remembered.is_served());
    for one in unserved.take(first) {
        one.is_described = true;
        reads -= 1;
    }
    let rest = settled.iter_mut().filter(|one| !one.is_described);
    for one in rest.take(reads) {
        one.is_described = true;
    }
}
