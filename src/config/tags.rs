//! Reads the tags of a target group of the fleet. They say what the variables say about the groups that are configured.

use std::collections::{BTreeMap, HashSet};

use super::variable::{Variable, port};
use super::{LOOKUPS, MISSES, PORT_RULE, Settings, TargetGroupConfig};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::target_group::TargetGroupArn;

/// The tag by which a group belongs to a fleet.
pub const FLEET_TAG: &str = "nlb-hostname-target/fleet";

/// The tags of a target group.
pub type Tags = BTreeMap<String, String>;

impl TargetGroupConfig {
    /// Reads the tags. A tag that is missing or empty leaves the default.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the first tag that is missing or malformed.
    pub fn from_tags(arn: TargetGroupArn, tags: &Tags, defaults: Settings) -> Result<Self, Error> {
        let tag = |name| Variable::look_up(name, |name| tags.get(name).cloned());
        let number = |name, default: u32, range| {
            let tag = tag(name).or(&default.to_string());
            tag.number("a number", range)
        };
        let endpoints = tag("nlb-hostname-target/endpoints");
        let endpoints = endpoints.required("different host names, separated by spaces", names)?;
        let own_port = tag("nlb-hostname-target/port").optional(PORT_RULE, port)?;
        Ok(TargetGroupConfig {
            arn,
            endpoints,
            settings: Settings {
                port: own_port.or(defaults.port),
                lookups: number("nlb-hostname-target/lookups", defaults.lookups, LOOKUPS)?,
                misses: number("nlb-hostname-target/misses", defaults.misses, MISSES)?,
            },
            is_listed: true,
        })
    }
}

/// A tag's value has no comma.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Tag.html>
fn names(text: &str) -> Option<Vec<Endpoint>> {
    let names: Option<Vec<_>> = text.split_whitespace().map(Endpoint::parse).collect();
    let mut seen = HashSet::new();
    names.filter(|names| !names.is_empty() && names.iter().all(|name| seen.insert(name.clone())))
}
