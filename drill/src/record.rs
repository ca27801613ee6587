//! Finds where the time of a failover went, from what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// A failover is over after this time without another change.
const CALM: Duration = Duration::from_secs(3);
/// A client that has written nothing for this long is not back.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Entry {
    /// The time since the beginning. It is when the entry was seen, or when a write that failed was sent.
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The endpoint is at these addresses.
    Name(BTreeSet<IpAddr>),
    /// The group's targets, with their states.
    Targets(BTreeMap<IpAddr, String>),
    /// A write was acknowledged.
    Written,
    /// A write failed.
    Failed { is_read_only: bool, error: String },
    /// The role that the node at the end of the client's connection reports: `master` or `slave`.
    Role(String),
    /// Somebody is connected to the node that the name has left.
    OnOld,
    /// Nobody is connected to the node that the name has left.
    NobodyOnOld,
}

/// The times are in seconds since the failover's first sign. The names are those of `make e2e`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub from: BTreeSet<IpAddr>,
    pub to: BTreeSet<IpAddr>,
    pub moved: f64,
    pub registered: Option<f64>,
    pub in_service: Option<f64>,
    pub deregistered: Option<f64>,
    pub old_gone: Option<f64>,
    /// `None` if the old node could not be asked.
    pub last_on_old: Option<f64>,
    /// Somebody was connected to the old node when it was last asked.
    pub is_old_in_use: bool,
    pub clients: BTreeMap<&'static str, Writes>,
}

/// The outcome of a client's writes. Errors are counted since the first sign.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Writes {
    /// The longest time between two writes that succeeded.
    pub without_write: Option<f64>,
    /// The time of the write that ended it.
    pub back: Option<f64>,
    pub is_back: bool,
    pub read_only: usize,
    pub other_errors: usize,
    pub errors: BTreeSet<String>,
    pub acknowledged: usize,
}

impl Record {
    /// Returns what is known `now` about the first failover. Returns `None` as long as the name has not left one
    /// address for another.
    pub fn of(entries: &[Entry], now: Duration) -> Option<Self> {
        let mut names = entries.iter().filter_map(|entry| match &entry.what {
            What::Name(addresses) => Some((entry.at, addresses)),
            _ => None,
        });
        let (_, before) = names.next()?;
        let has_moved = |addresses: &BTreeSet<IpAddr>| {
            !before.is_subset(addresses) && !addresses.is_subset(before)
        };
        let (moved, after) = names.find(|(_, addresses)| has_moved(addresses))?;
        let from: BTreeSet<_> = before.difference(after).copied().collect();
        let to: BTreeSet<_> = after.difference(before).copied().collect();
        // The failover begins with the first of the writes that fail until the name moves.
        let writes = entries.iter().filter(|entry| entry.at <= moved).rev();
        let writes = writes.filter(|entry| is_write(&entry.what));
        let failed = writes.take_while(|entry| entry.what != What::Written);
        let begin = failed.last().map_or(moved, |first| first.at);
        let since = |at: Duration| at.saturating_sub(begin).as_secs_f64();
        let first = |is_so: &dyn Fn(&BTreeMap<IpAddr, String>) -> bool| {
            let when = |entry: &Entry| match &entry.what {
                What::Targets(targets) if is_so(targets) => Some(since(entry.at)),
                _ => None,
            };
            // What was true before the failover is true when it begins.
            let is_before =
                |entry: &Entry| entry.at <= begin && matches!(entry.what, What::Targets(_));
            let known = entries.iter().rposition(is_before).unwrap_or(0);
            entries[known..].iter().find_map(when)
        };
        let has_state = |address: &IpAddr, targets: &BTreeMap<IpAddr, String>, state: &str| {
            targets.get(address).is_some_and(|found| found == state)
        };
        let is_look = |entry: &&Entry| matches!(entry.what, What::OnOld | What::NobodyOnOld);
        let last_look = entries.iter().rfind(is_look);
        let last_on_old = entries.iter().rfind(|entry| entry.what == What::OnOld);
        let last_on_old = last_on_old.map_or(0.0, |entry| since(entry.at));
        Some(Record {
            moved: since(moved),
            registered: first(&|targets| {
                let is_there =
                    |new| targets.contains_key(new) && !has_state(new, targets, "draining");
                to.iter().all(is_there)
            }),
            in_service: first(&|targets| to.iter().all(|new| has_state(new, targets, "healthy"))),
            deregistered: first(&|targets| {
                let is_left =
                    |old| !targets.contains_key(old) || has_state(old, targets, "draining");
                from.iter().all(is_left)
            }),
            old_gone: first(&|targets| !from.iter().any(|old| targets.contains_key(old))),
            last_on_old: last_look.map(|_| last_on_old),
            is_old_in_use: last_look.is_some_and(|entry| entry.what == What::OnOld),
            clients: BTreeMap::from([("drill", Writes::of(entries, begin, now))]),
            from,
            to,
        })
    }

    pub fn is_back(&self) -> bool {
        self.clients.values().all(|writes| writes.is_back)
    }

    /// Returns the record as a Markdown table, as `make e2e` prints it.
    pub fn table(&self) -> String {
        let seconds = |value: Option<f64>| match value {
            Some(value) => format!("{value:.1}"),
            None => "not seen".to_owned(),
        };
        let writes = &self.clients["drill"];
        let without = match writes.is_back {
            true => seconds(writes.without_write),
            false => "not back".to_owned(),
        };
        let list = |addresses: &BTreeSet<IpAddr>| {
            let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            addresses.join(", ")
        };
        let cells = [
            format!("{} to {}", list(&self.from), list(&self.to)),
            seconds(Some(self.moved)),
            seconds(self.registered),
            seconds(self.in_service),
            seconds(self.deregistered),
            seconds(self.old_gone),
            match self.is_old_in_use {
                true => "still connected".to_owned(),
                false => seconds(self.last_on_old),
            },
            format!("{without} ({})", writes.read_only),
        ];
        format!(
            "| Failover | name moved | registered | in service | old one drains | old one gone | \
             last connection there | drill |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n\
             | {} |\n\n\
             Times are in seconds since the first sign of the failover. The last column is how long the client could \
             not write, and in brackets how many writes READONLY refused.\n",
            cells.join(" | ")
        )
    }
}

impl Writes {
    fn of(entries: &[Entry], begin: Duration, now: Duration) -> Self {
        let is_written = |entry: &&Entry| entry.what == What::Written;
        let times: Vec<_> = entries
            .iter()
            .filter(is_written)
            .map(|entry| entry.at)
            .collect();
        let gaps = times.windows(2).filter(|pair| pair[1] > begin);
        let gap = gaps.map(|pair| (pair[1] - pair[0], pair[1])).max();
        let failures = entries.iter().filter(|entry| entry.at >= begin);
        let failures: Vec<_> = failures
            .filter_map(|entry| match &entry.what {
                What::Failed {
                    is_read_only,
                    error,
                } => Some((*is_read_only, error)),
                _ => None,
            })
            .collect();
        let last = entries.iter().rfind(|entry| is_write(&entry.what));
        let is_fresh = |last: &Entry| last.at > begin && now <= last.at + FRESH;
        let read_only = failures
            .iter()
            .filter(|(is_read_only, _)| *is_read_only)
            .count();
        Writes {
            without_write: gap.map(|(gap, _)| gap.as_secs_f64()),
            back: gap.map(|(_, back)| back.saturating_sub(begin).as_secs_f64()),
            is_back: last.is_some_and(|last| last.what == What::Written && is_fresh(last)),
            read_only,
            other_errors: failures.len() - read_only,
            errors: failures.iter().map(|(_, error)| (*error).clone()).collect(),
            acknowledged: times.len(),
        }
    }
}

pub fn is_write(what: &What) -> bool {
    matches!(what, What::Written | What::Failed { .. })
}

/// Returns true if the failover is over. The name has moved, the client writes again, and nothing else has changed for
/// a while. If the targets are watched, they are as the name says. If they are not, the client was interrupted.
pub fn is_over(entries: &[Entry], is_group_watched: bool, now: Duration) -> bool {
    let Some(record) = Record::of(entries, now) else {
        return false;
    };
    let has_followed = record.in_service.is_some() && record.old_gone.is_some();
    let mut writes = record.clients.values();
    let was_interrupted = writes.all(|writes| writes.read_only + writes.other_errors > 0);
    let is_change = |entry: &&Entry| {
        let is_look = matches!(entry.what, What::OnOld | What::NobodyOnOld);
        !is_look && entry.what != What::Written
    };
    let changed = entries.iter().rfind(is_change);
    let changed = changed.map_or(Duration::ZERO, |entry| entry.at);
    let is_there = match is_group_watched {
        true => has_followed,
        // If the group is not watched, nobody can know whether the connection has still to move.
        false => was_interrupted,
    };
    is_there && record.is_back() && now >= changed + CALM
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "10.0.1.7";
    const NEW: &str = "10.0.2.9";

    fn name(at: u64, address: &str) -> Entry {
        entry(
            at,
            What::Name(BTreeSet::from([address.parse().expect("an address")])),
        )
    }

    fn targets<const N: usize>(at: u64, targets: [(&str, &str); N]) -> Entry {
        let targets = targets
            .map(|(address, state)| (address.parse().expect("an address"), state.to_owned()));
        entry(at, What::Targets(BTreeMap::from(targets)))
    }

    fn failed(at: u64, is_read_only: bool) -> Entry {
        let error = "an error".to_owned();
        entry(
            at,
            What::Failed {
                is_read_only,
                error,
            },
        )
    }

    fn written(at: u64) -> Entry {
        entry(at, What::Written)
    }

    fn entry(at: u64, what: What) -> Entry {
        let at = Duration::from_secs(at);
        Entry { at, what }
    }

    /// The demoted node refuses writes from 100 s on, and the name moves at 102 s.
    fn planned() -> Vec<Entry> {
        vec![
            name(0, OLD),
            targets(0, [(OLD, "healthy")]),
            written(10),
            failed(11, false),
            written(12),
            written(99),
            failed(100, true),
            name(102, NEW),
            entry(103, What::OnOld),
            targets(104, [(OLD, "draining"), (NEW, "initial")]),
            failed(105, true),
            targets(110, [(OLD, "draining"), (NEW, "healthy")]),
            entry(111, What::NobodyOnOld),
            targets(112, [(NEW, "healthy")]),
            written(113),
        ]
    }

    #[test]
    fn times_count_from_the_first_write_that_failed() {
        let record = Record::of(&planned(), Duration::from_secs(113)).expect("the name has moved");
        assert_eq!(record.moved, 2.0);
        assert_eq!(record.registered, Some(4.0));
        assert_eq!(record.deregistered, Some(4.0));
        assert_eq!(record.in_service, Some(10.0));
        assert_eq!(record.old_gone, Some(12.0));
        assert_eq!(record.last_on_old, Some(3.0));
        let writes = &record.clients["drill"];
        assert_eq!(writes.without_write, Some(14.0));
        assert_eq!(writes.back, Some(13.0));
        assert_eq!((writes.read_only, writes.other_errors), (2, 0));
        assert!(record.is_back());
        let row = "| 10.0.1.7 to 10.0.2.9 | 2.0 | 4.0 | 10.0 | 4.0 | 12.0 | 3.0 | 14.0 (2) |";
        assert!(record.table().contains(row), "{}", record.table());
    }

    #[test]
    fn it_is_over_when_nothing_has_changed_for_a_while() {
        let seconds = Duration::from_secs;
        let mut entries = planned();
        assert!(!is_over(&entries, true, seconds(114)));
        assert!(
            !is_over(&entries, true, seconds(115)),
            "a write hangs since 113 s"
        );
        entries.push(written(115));
        assert!(is_over(&entries, true, seconds(115)));
        // The old target is still there.
        entries.retain(|entry| entry.at != seconds(112));
        assert!(!is_over(&entries, true, seconds(115)));
        assert!(is_over(&entries, false, seconds(115)));
    }

    #[test]
    fn without_the_targets_it_is_not_over_before_the_client_was_interrupted() {
        let mut entries = vec![name(0, OLD), written(1), name(5, NEW), written(9)];
        assert!(!is_over(&entries, false, Duration::from_secs(9)));
        entries.extend([failed(10, false), written(14)]);
        assert!(is_over(&entries, false, Duration::from_secs(14)));
    }

    #[test]
    fn a_name_has_moved_when_one_address_took_the_place_of_another() {
        let of = |at, addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().expect("one"));
            entry(at, What::Name(addresses.collect()))
        };
        let now = Duration::from_secs(9);
        let is_moved =
            |to: &[&str]| Record::of(&[of(0, &[OLD, "10.0.5.5"]), of(5, to)], now).is_some();
        assert!(!is_moved(&[OLD, "10.0.5.5", NEW]));
        assert!(!is_moved(&[OLD]));
        assert!(is_moved(&[NEW, "10.0.5.5"]));
    }

    #[test]
    fn it_begins_with_the_writes_that_fail_until_the_name_moves() {
        // One write failed alone, long before the failover.
        let mut entries = vec![name(0, OLD), failed(1, false), written(2)];
        entries.extend([
            failed(3, false),
            failed(8, false),
            name(80, NEW),
            written(81),
        ]);
        let record = Record::of(&entries, Duration::from_secs(81)).expect("the name has moved");
        assert_eq!(record.moved, 77.0);
        assert_eq!(record.clients["drill"].other_errors, 2);
    }

    #[test]
    fn what_the_group_has_already_is_registered_when_it_begins() {
        let both = [(OLD, "healthy"), (NEW, "healthy")];
        let mut entries = vec![name(0, OLD), targets(0, both), written(1), name(5, NEW)];
        let now = Duration::from_secs(6);
        let record = Record::of(&entries, now).expect("the name has moved");
        assert_eq!(
            (record.registered, record.in_service),
            (Some(0.0), Some(0.0))
        );
        assert_eq!((record.deregistered, record.old_gone), (None, None));
        // The name moves to a target that still drains.
        entries[1] = targets(0, [(OLD, "healthy"), (NEW, "draining")]);
        let record = Record::of(&entries, now).expect("the name has moved");
        assert_eq!(record.registered, None);
    }

    #[test]
    fn who_still_fails_is_not_back() {
        let mut entries = vec![
            name(0, OLD),
            written(1),
            name(5, NEW),
            written(6),
            failed(7, true),
        ];
        let now = Duration::from_secs(7);
        let record = Record::of(&entries, now).expect("the name has moved");
        assert!(!record.is_back());
        assert_eq!(record.moved, 0.0);
        // Nobody could ask the old node, and nobody watched the targets.
        assert_eq!(record.last_on_old, None);
        assert_eq!(record.in_service, None);
        assert!(record.table().contains("| not seen | not back (1) |"));
        entries.push(entry(7, What::OnOld));
        let record = Record::of(&entries, now).expect("the name has moved");
        assert!(
            record
                .table()
                .contains("| still connected | not back (1) |")
        );
    }
}
