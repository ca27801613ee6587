//! The result of an invocation, as it is returned and logged.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::Errors;
use crate::plan::Target;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub dry_run: bool,
    /// In configuration order.
    pub target_groups: Vec<TargetGroupReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupReport {
    pub target_group_arn: String,
    /// In configuration order.
    pub endpoints: Vec<String>,
    /// The last good answer, at the port that is registered; empty without one.
    pub desired: BTreeSet<Target>,
    /// What ELB acknowledged; in a dry run what would change.
    pub registered: BTreeSet<Target>,
    /// What ELB acknowledged; in a dry run what would change.
    pub deregistered: BTreeSet<Target>,
    /// The endpoint moved away from a target that was deregistered.
    pub failover: bool,
    pub reconciles: u32,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub error_type: &'static str,
    pub error_message: String,
}

impl From<&Errors> for Failure {
    fn from(errors: &Errors) -> Self {
        Failure {
            error_type: errors.error_type(),
            error_message: errors.to_string(),
        }
    }
}
