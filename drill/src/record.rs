//! Where the time of a failover went, from what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// A write that fails so shortly before the name moves is the failover's first sign.
const LEAD: Duration = Duration::from_secs(60);
/// Without another change, until a failover is over.
const CALM: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Entry {
    /// Since the beginning.
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The endpoint is here.
    Name(BTreeSet<IpAddr>),
    /// The group's targets, with their states.
    Targets(BTreeMap<IpAddr, String>),
    /// A write was acknowledged.
    Written,
    /// A write failed.
    Failed { is_read_only: bool, error: String },
    /// Somebody is connected to the node that the name has left.
    OnOld,
    /// Nobody is.
    NobodyOnOld,
}

/// In seconds since the failover's first sign; the names are those of `make e2e`.
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
    pub clients: BTreeMap<&'static str, Writes>,
}

/// What became of the writes of a client since the first sign.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Writes {
    /// The longest time between two of them that succeeded.
    pub without_write: Option<f64>,
    /// When that was over.
    pub back: Option<f64>,
    pub is_back: bool,
    pub read_only: usize,
    pub other_errors: usize,
    pub errors: BTreeSet<String>,
    pub acknowledged: usize,
}

impl Record {
    /// Of the first failover; `None` as long as the name has left no address.
    pub fn of(entries: &[Entry]) -> Option<Self> {
        let names = entries.iter().filter_map(|entry| match &entry.what {
            What::Name(addresses) => Some((entry.at, addresses)),
            _ => None,
        });
        let mut names = names.clone();
        let (_, before) = names.next()?;
        let (moved, after) = names.find(|(_, addresses)| !before.is_subset(addresses))?;
        let from: BTreeSet<_> = before.difference(after).copied().collect();
        let to: BTreeSet<_> = after.difference(before).copied().collect();
        let is_sign =
            |entry: &&Entry| matches!(entry.what, What::Failed { .. }) && entry.at + LEAD >= moved;
        let first_failed = entries.iter().find(is_sign).map(|entry| entry.at);
        let begin = first_failed.map_or(moved, |failed| failed.min(moved));
        let since = |at: Duration| at.saturating_sub(begin).as_secs_f64();
        let first = |is_so: &dyn Fn(&BTreeMap<IpAddr, String>) -> bool| {
            let when = |entry: &Entry| match &entry.what {
                What::Targets(targets) if is_so(targets) => Some(since(entry.at)),
                _ => None,
            };
            entries
                .iter()
                .filter(|entry| entry.at >= begin)
                .find_map(when)
        };
        let has_state = |address: &IpAddr, targets: &BTreeMap<IpAddr, String>, state: &str| {
            targets.get(address).is_some_and(|found| found == state)
        };
        let asked_old = |entry: &&Entry| matches!(entry.what, What::OnOld | What::NobodyOnOld);
        let on_old = entries.iter().filter(|entry| entry.what == What::OnOld);
        let last_on_old = on_old.map(|entry| since(entry.at)).next_back();
        Some(Record {
            moved: since(moved),
            registered: first(&|targets| to.iter().all(|new| targets.contains_key(new))),
            in_service: first(&|targets| to.iter().all(|new| has_state(new, targets, "healthy"))),
            deregistered: first(&|targets| {
                let is_left =
                    |old| !targets.contains_key(old) || has_state(old, targets, "draining");
                from.iter().all(is_left)
            }),
            old_gone: first(&|targets| !from.iter().any(|old| targets.contains_key(old))),
            last_on_old: match entries.iter().find(asked_old) {
                Some(_) => last_on_old.or(Some(0.0)),
                None => None,
            },
            clients: BTreeMap::from([("drill", Writes::of(entries, begin))]),
            from,
            to,
        })
    }

    pub fn is_back(&self) -> bool {
        self.clients.values().all(|writes| writes.is_back)
    }

    /// As `make e2e` prints it, in Markdown.
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
            seconds(self.last_on_old),
            format!("{without} ({})", writes.read_only),
        ];
        format!(
            "| Failover | name moved | registered | in service | old one drains | old one gone | \
             last connection there | drill |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n\
             | {} |\n\n\
             In seconds since its first sign; for the client how long it wrote nothing, and in brackets how many writes \
             READONLY refused.\n",
            cells.join(" | ")
        )
    }
}

impl Writes {
    fn of(entries: &[Entry], begin: Duration) -> Self {
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
        let is_write = |entry: &&Entry| matches!(entry.what, What::Written | What::Failed { .. });
        let last = entries.iter().rfind(is_write);
        let read_only = failures
            .iter()
            .filter(|(is_read_only, _)| *is_read_only)
            .count();
        Writes {
            without_write: gap.map(|(gap, _)| gap.as_secs_f64()),
            back: gap.map(|(_, back)| back.saturating_sub(begin).as_secs_f64()),
            is_back: last.is_some_and(|entry| entry.what == What::Written && entry.at > begin),
            read_only,
            other_errors: failures.len() - read_only,
            errors: failures.iter().map(|(_, error)| (*error).clone()).collect(),
            acknowledged: times.len(),
        }
    }
}

/// The name has moved, the client writes, and the targets, if they are watched, are as the name says, for a while.
pub fn is_over(entries: &[Entry], is_group_watched: bool, now: Duration) -> bool {
    let Some(record) = Record::of(entries) else {
        return false;
    };
    let has_followed = record.in_service.is_some() && record.old_gone.is_some();
    let is_change = |entry: &&Entry| {
        matches!(
            entry.what,
            What::Name(_) | What::Targets(_) | What::Failed { .. }
        )
    };
    let changed = entries
        .iter()
        .rfind(is_change)
        .map_or(Duration::ZERO, |entry| entry.at);
    (has_followed || !is_group_watched) && record.is_back() && now >= changed + CALM
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

    /// The demoted node refuses from 100 s on, the name moves at 102 s.
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
        let record = Record::of(&planned()).expect("the name has moved");
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
        let (entries, seconds) = (planned(), Duration::from_secs);
        assert!(!is_over(&entries, true, seconds(114)));
        assert!(is_over(&entries, true, seconds(115)));
        // Without the old target's end, and without the last write.
        assert!(!is_over(&entries[..entries.len() - 2], true, seconds(1000)));
        assert!(!is_over(
            &entries[..entries.len() - 1],
            false,
            seconds(1000)
        ));
        // Nobody watches the targets.
        let unwatched = [name(0, OLD), written(1), name(5, NEW), written(6)];
        assert!(!is_over(&unwatched, true, seconds(1000)));
        assert!(is_over(&unwatched, false, seconds(1000)));
    }

    #[test]
    fn a_name_that_gains_an_address_has_not_moved() {
        let mut both = name(5, OLD);
        both.what = What::Name(BTreeSet::from(
            [OLD, NEW].map(|text| text.parse().expect("one")),
        ));
        let entries = [name(0, OLD), both, written(6)];
        assert_eq!(Record::of(&entries), None);
    }

    #[test]
    fn who_still_fails_is_not_back() {
        let entries = [
            name(0, OLD),
            written(1),
            name(5, NEW),
            written(6),
            failed(7, true),
        ];
        let record = Record::of(&entries).expect("the name has moved");
        assert!(!record.is_back());
        assert_eq!(record.moved, 0.0);
        // Nobody could look.
        assert_eq!(record.last_on_old, None);
        assert_eq!(record.in_service, None);
        assert!(record.table().contains("| not seen | not back (1) |"));
    }
}
