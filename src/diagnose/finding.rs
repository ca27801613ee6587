//! A finding is one thing that is wrong.

use serde::Serialize;
use tracing::info;

use crate::log::json;

/// The answer of a diagnosis. The worst findings come first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    pub findings: Vec<Finding>,
}

impl Findings {
    /// Logs the one line of the invocation.
    pub fn log(&self) {
        info!("json.findings" = json(&self.findings), "diagnosed");
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The id is stable. docs/diagnose.md explains each one.
    pub id: &'static str,
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub seen: String,
    /// The command or the setting that mends it.
    pub mend: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The deployment cannot work, or nobody knows whether it can.
    Error,
    /// The problem will hurt in a failover.
    Warning,
    /// Nothing is wrong.
    Info,
}

impl Finding {
    pub(super) fn new(id: &'static str, severity: Severity, seen: String, mend: String) -> Self {
        Finding {
            id,
            severity,
            target_group_arn: None,
            endpoint: None,
            seen,
            mend,
        }
    }
}
