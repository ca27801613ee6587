//! A finding is one thing that is wrong. As JSON it looks like a finding of the function that follows names, which is
//! apart from this.

use serde::Serialize;

/// The answer of a diagnosis. The worst findings come first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    pub findings: Vec<Finding>,
}

impl Findings {
    /// Sorts the findings of one endpoint.
    pub fn new(endpoint: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        for finding in &mut findings {
            finding.endpoint = Some(endpoint.to_owned());
        }
        Findings { findings }
    }

    /// Returns true if there is no error among them, so that a client can work.
    pub fn is_sound(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.all(|finding| finding.severity != Severity::Error)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The id is stable. docs/drill.md and docs/front-door.md explain each one.
    pub id: &'static str,
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub seen: String,
    /// What mends it.
    pub mend: String,
}

impl Finding {
    /// Makes an error. [`Findings::new`] adds the endpoint.
    pub fn error(id: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding {
            id,
            severity: Severity::Error,
            endpoint: None,
            seen: seen.into(),
            mend: mend.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A client cannot work.
    Error,
    /// Something is wrong that need not concern clients.
    Warning,
    /// Nothing is wrong.
    Info,
}
