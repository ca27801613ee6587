//! Where the endpoints are. The name servers of the sandboxes may still give what was true before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::world::PORT;

use super::{BELIEVABLE, MARGIN, Targets};
use crate::play::{endpoint, node};
use crate::sequence::Setting;

#[derive(Debug, Default)]
pub struct Names {
    legs: BTreeMap<usize, Vec<Leg>>,
}

/// The endpoint is at these addresses from then on, up to the next leg.
#[derive(Debug, Clone)]
struct Leg {
    from: Duration,
    to: BTreeSet<IpAddr>,
    is_out: bool,
}

impl Names {
    pub fn moved(&mut self, name: &str, to: &[IpAddr], now: Duration) {
        let legs = self.legs_of(name);
        legs.push(Leg {
            from: now,
            to: to.iter().copied().collect(),
            is_out: legs.last().is_some_and(|last| last.is_out),
        });
    }

    pub fn out(&mut self, name: &str, is_over: bool, now: Duration) {
        let legs = self.legs_of(name);
        let last = legs.last().expect("an endpoint that is somewhere");
        legs.push(Leg {
            from: now,
            is_out: !is_over,
            ..last.clone()
        });
    }

    fn legs_of(&mut self, name: &str) -> &mut Vec<Leg> {
        let index = index_of(name).expect("an endpoint").0;
        self.legs.entry(index).or_default()
    }

    /// What the group has to have.
    pub fn desired(&self, setting: &Setting, group: usize) -> Targets {
        let legs = setting.endpoints_of(group).map(|index| &self.legs[&index]);
        let last = legs.flat_map(|legs| &legs.last().expect("an endpoint that is somewhere").to);
        last.map(|address| SocketAddr::new(*address, PORT))
            .collect()
    }

    /// When the last of the group's endpoints moved last.
    pub fn still_since(&self, setting: &Setting, group: usize) -> Duration {
        let legs = setting.endpoints_of(group).map(|index| &self.legs[&index]);
        let last = legs.map(|legs| legs.last().expect("an endpoint that is somewhere").from);
        last.max().unwrap_or_default()
    }

    /// I8's limit: a name that comes back to an address within TTL plus margin plus 90 s. The answers that it
    /// gave before may be believed for as long.
    pub fn is_to_and_fro(&self, setting: &Setting, group: usize, now: Duration) -> bool {
        let old = setting.staleness() + MARGIN + BELIEVABLE;
        let is_back = |legs: &[Leg], index: usize| {
            let leg = &legs[index];
            let came = leg.to.difference(&legs[index - 1].to);
            let was_there = |address: &&IpAddr| {
                let mut left = legs[..index].windows(2).rev();
                let left = left
                    .find(|pair| pair[0].to.contains(*address) && !pair[1].to.contains(*address));
                left.is_some_and(|pair| leg.from <= pair[1].from + old)
            };
            now <= leg.from + old && came.into_iter().any(|address| was_there(&address))
        };
        let mut legs = setting.endpoints_of(group).map(|index| &self.legs[&index]);
        legs.any(|legs| (1..legs.len()).any(|index| is_back(legs, index)))
    }

    /// The longest time between the two moments in which the endpoint could be resolved and was where it
    /// has to be for that.
    pub fn longest(
        &self,
        endpoint: usize,
        (begin, end): (Duration, Duration),
        is_there: impl Fn(&BTreeSet<IpAddr>) -> bool,
    ) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for leg in &self.legs[&endpoint] {
            let from = leg.from.clamp(begin, end);
            longest = longest.max(since.map_or(Duration::ZERO, |since| from - since));
            since = match is_there(&leg.to) && !leg.is_out {
                true => since.or(Some(from)),
                false => None,
            };
        }
        longest.max(since.map_or(Duration::ZERO, |since| end.saturating_sub(since)))
    }
}

/// The endpoint that this is a name of, and whether it is the endpoint's own rather than the end of its chain.
pub fn index_of(name: &str) -> Option<(usize, bool)> {
    let number = name.split_once('-')?.1.split('.').next()?;
    let index = number.parse().ok()?;
    match name {
        _ if name == endpoint(index) => Some((index, true)),
        _ if name == node(index) => Some((index, false)),
        _ => None,
    }
}
