//! Reads the fleet's list as section 9 says. Without a fleet, all groups are configured.

use std::collections::BTreeMap;

use stand_in::tagging::Tags;

use super::names::index_of;
use crate::history::Page;
use crate::play::index_of_group;
use crate::sequence::Setting;

/// A group as its tags describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The endpoints that the tag names. Without any, it cannot be read.
    pub names: Vec<usize>,
    pub misses: Option<u32>,
    /// The names hold: the list before says the same, or does not have the group.
    is_held: bool,
}

/// The last whole list of a sandbox.
#[derive(Debug, Clone, Default)]
pub struct List(BTreeMap<usize, Listed>);

impl Listed {
    pub fn read(tags: &Tags) -> Self {
        let names = tags.get("nlb-hostname-target/endpoints");
        let names = names.map_or("", String::as_str).split(' ');
        let names: Option<_> = names.map(|name| Some(index_of(name)?.0)).collect();
        let misses = tags.get("nlb-hostname-target/misses");
        Listed {
            names: names.unwrap_or_default(),
            misses: misses.map(|misses| misses.parse().expect("a number")),
            is_held: true,
        }
    }

    pub fn is_bad(&self) -> bool {
        self.names.is_empty()
    }
}

impl List {
    /// Returns the groups that are configured.
    pub fn configured(setting: &Setting) -> Self {
        let listed = |group| Listed {
            names: setting.endpoints_of(group).collect(),
            misses: None,
            is_held: true,
        };
        let groups = 0..setting.groups();
        List(groups.map(|group| (group, listed(group))).collect())
    }

    pub fn add(&mut self, page: &Page) {
        let groups = page.groups.iter();
        self.0
            .extend(groups.map(|(arn, tags)| (index_of_group(arn), Listed::read(tags))));
    }

    /// Notes that this is a whole list, and what the sandbox's last one was.
    pub fn follows(&mut self, last: &List) {
        for (group, listed) in &mut self.0 {
            let before = last.0.get(group);
            listed.is_held = before.is_none_or(|before| before.names == listed.names);
        }
    }

    /// Returns the groups that are followed.
    pub fn followed(&self) -> impl Iterator<Item = usize> {
        let held = self
            .0
            .iter()
            .filter(|(_, one)| one.is_held && !one.is_bad());
        held.map(|(group, _)| *group)
    }

    pub fn is_followed(&self, group: usize) -> bool {
        let listed = self.0.get(&group);
        listed.is_some_and(|listed| listed.is_held && !listed.is_bad())
    }

    /// Returns the numbers of groups whose names do not hold yet, and of those whose tag cannot be read.
    pub fn left_alone(&self) -> (u64, u64) {
        let bad = self.0.values().filter(|one| one.is_bad()).count();
        let all = self.0.len() - self.followed().count();
        ((all - bad) as u64, bad as u64)
    }

    pub fn endpoints_of(&self, group: usize) -> impl Iterator<Item = usize> {
        let listed = self.0.get(&group).filter(|_| self.is_followed(group));
        listed
            .into_iter()
            .flat_map(|listed| listed.names.iter().copied())
    }

    pub fn misses_of(&self, group: usize) -> Option<u32> {
        self.0.get(&group)?.misses
    }
}
