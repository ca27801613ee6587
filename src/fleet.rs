//! The fleet is the target groups of the account and Region that have a tag. It is listed once in each invocation, and
//! a pure function says which of the listed groups are followed.

mod list;

use std::collections::BTreeMap;

use crate::config::{Config, Tags, TargetGroupConfig};
use crate::error::Error;
use crate::target_group::TargetGroupArn;

pub use list::list;

/// At most this many groups of the fleet are followed.
const MOST_GROUPS: usize = 500;
/// At most this many lookups are made for all groups in a reconcile. At the pace of lookups they take 5 s.
const MOST_LOOKUPS: usize = 1000;

/// The listed groups with their tags.
pub type List = BTreeMap<TargetGroupArn, Tags>;

/// What a sandbox remembers of the last whole list.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    listed: BTreeMap<TargetGroupArn, Listed>,
}

/// What the last whole list says about one group.
#[derive(Debug, Clone)]
struct Listed {
    /// `None` means a tag that cannot be read.
    said: Option<TargetGroupConfig>,
    /// The list before says the same names, or does not have the group.
    is_held: bool,
}

/// What a list has that somebody has to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The groups that are not followed, because a tag cannot be read.
    pub invalid: Vec<(TargetGroupArn, Error)>,
    /// The groups that are not followed, because the list before says other names.
    pub changed: Vec<TargetGroupArn>,
    /// The groups that were in the last list and are not in this one.
    pub left: Vec<TargetGroupArn>,
}

impl Fleet {
    /// Takes in a whole list, without the groups that are configured. What it says holds at once, except for other names
    /// of a group: they hold when the next list says the same. Until then the group is left alone. Two lists that disagree
    /// would flip it, and so would two sandboxes of which one still follows the names from before.
    pub fn learn(&mut self, list: &List, config: &Config) -> News {
        let mut news = News::default();
        let mut listed = BTreeMap::new();
        let configured = |arn: &TargetGroupArn| {
            let mut groups = config.target_groups.iter();
            groups.any(|group| group.arn == *arn)
        };
        for (arn, tags) in list.iter().filter(|(arn, _)| !configured(arn)) {
            let last = self.listed.remove(arn);
            let now = match TargetGroupConfig::from_tags(arn.clone(), tags, config.settings) {
                Ok(group) => Listed::after(last, group),
                Err(error) => {
                    let invalid = Error::TagInvalid {
                        target_group_arn: arn.to_string(),
                        reason: error.to_string(),
                    };
                    news.invalid.push((arn.clone(), invalid));
                    Listed {
                        said: None,
                        is_held: false,
                    }
                }
            };
            if now.said.is_some() && !now.is_held {
                news.changed.push(arn.clone());
            }
            listed.insert(arn.clone(), now);
        }
        let last = std::mem::replace(&mut self.listed, listed);
        news.left = last.into_keys().collect();
        news
    }

    /// Returns the groups to follow, in the order of their ARNs, and the failure if that is not the whole fleet.
    pub fn groups(&self, config: &Config) -> (Vec<TargetGroupConfig>, Option<Error>) {
        let lookups =
            |group: &TargetGroupConfig| group.endpoints.len() * group.settings.lookups as usize;
        let mut budget =
            MOST_LOOKUPS.saturating_sub(config.target_groups.iter().map(lookups).sum());
        let groups: Vec<_> = self.listed.values().filter_map(Listed::group).collect();
        let all = groups.len();
        let mut fits = |group: &TargetGroupConfig| {
            let left = budget.checked_sub(lookups(group));
            budget = left.unwrap_or(budget);
            left.is_some()
        };
        let groups = groups.into_iter().take(MOST_GROUPS);
        let followed: Vec<_> = groups.filter(|group| fits(group)).collect();
        let failure = (followed.len() < all).then(|| Error::FleetTooLarge {
            all,
            reason: format!(
                "at most {MOST_GROUPS} of them, with {MOST_LOOKUPS} lookups in all, fit into an invocation, and only {} are \
                 followed, in the order of their ARNs",
                followed.len()
            ),
        });
        (followed, failure)
    }
}

impl Listed {
    fn after(last: Option<Self>, group: TargetGroupConfig) -> Self {
        let is_held = last.is_none_or(|last| {
            let said = last.said.map(|said| said.endpoints);
            said.as_ref() == Some(&group.endpoints)
        });
        Listed {
            said: Some(group),
            is_held,
        }
    }

    /// Returns the group if it is followed.
    fn group(&self) -> Option<TargetGroupConfig> {
        self.said.clone().filter(|_| self.is_held)
    }
}
