//! Records where the endpoints are. The name servers of the sandboxes may still say what was true before.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Targets, at_port};
use crate::play::{endpoint, node};

#[derive(Debug, Default)]
pub struct Name {
    /// The times of all changes, the targets from then on, and whether the name was out.
    legs: Vec<(Duration, Targets, bool)>,
    /// The time at which the name last left each target.
    left: BTreeMap<SocketAddr, Duration>,
    /// The time at which the name came back to a target that it had left not long before.
    pub back: Option<Duration>,
}

impl Name {
    /// Notes that the name moved. `old` is how long a target counts after the name has left it.
    pub fn moved(&mut self, to: &[IpAddr], now: Duration, old: Duration) {
        let (from, to) = (self.targets(), at_port(to));
        let mut came = (&to - &from).into_iter();
        if came.any(|target| {
            self.left
                .get(&target)
                .is_some_and(|left| now <= *left + old)
        }) {
            self.back = Some(now);
        }
        self.left
            .extend((&from - &to).into_iter().map(|target| (target, now)));
        self.legs
            .push((now, to, self.legs.last().is_some_and(|leg| leg.2)));
    }

    pub fn out(&mut self, is_out: bool, now: Duration) {
        self.legs.push((now, self.targets(), is_out));
    }

    pub fn targets(&self) -> Targets {
        self.legs.last().map_or(Targets::new(), |leg| leg.1.clone())
    }

    pub fn still_since(&self) -> Duration {
        self.legs.last().map_or(Duration::ZERO, |leg| leg.0)
    }

    /// Returns the longest time within the period for which the name could be resolved and its targets were like that.
    pub fn longest(
        &self,
        (begin, end): (Duration, Duration),
        is_it: impl Fn(&Targets) -> bool,
    ) -> Duration {
        let ends = self.legs.iter().skip(1).map(|leg| leg.0);
        let (mut longest, mut row) = (Duration::ZERO, Duration::ZERO);
        for ((from, to, is_out), until) in self.legs.iter().zip(ends.chain([end])) {
            let leg = until.clamp(begin, end) - (*from).clamp(begin, end);
            row = (row + leg) * u32::from(is_it(to) && !is_out);
            longest = longest.max(row);
        }
        longest
    }
}

/// Returns the endpoint that has this name, and whether it is the endpoint's own name, not the end of its chain.
pub fn index_of(name: &str) -> Option<(usize, bool)> {
    let number = name.split_once('-')?.1.split('.').next()?;
    let index = number.parse().ok()?;
    let is_own = name == endpoint(index);
    (is_own || name == node(index)).then_some((index, is_own))
}
