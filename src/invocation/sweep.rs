//! Chooses the settled groups that the first reconcile of an invocation describes. One rule is for every size of a fleet:
//! up to 70 groups are all described in each invocation, and 500 within 8.

use super::Lent;
use crate::pace::READS_IN_10_SECONDS;

/// Leaves out the settled groups for which there is no read. Groups that are not settled are described in any case, as
/// are this many `others`. Half of the reads is left at least, since some of them may stop before they need a read, in each
/// invocation. Settled groups that no healthy target serves have at most half of the reads. The rest is for
/// those whose turn was longest ago.
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
