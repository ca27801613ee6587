//! Finds what is wrong with the fleet, and which of its groups are examined.

use aws_sdk_resourcegroupstagging::Client;
use tokio::time::Instant;

use super::finding::{Finding, Severity};
use crate::config::{Config, TargetGroupConfig};
use crate::error::Error;
use crate::fleet::{Fleet, list};

/// There is time for the calls about this many groups. Those that are configured come first.
const MOST_EXAMINED: usize = 60;

/// What is known of the fleet.
#[derive(Default)]
pub struct Discovered {
    /// The groups to examine, which are drawn if there are too many.
    pub groups: Vec<TargetGroupConfig>,
    pub findings: Vec<Finding>,
}

/// Lists the fleet.
pub async fn discover(client: &Client, config: &Config, deadline: Instant) -> Discovered {
    let Some(tag) = &config.fleet else {
        return Discovered::default();
    };
    let (mut fleet, mut findings) = (Fleet::default(), Vec::new());
    match list(client, tag, deadline).await {
        Ok(list) => {
            let invalid = fleet.learn(&list, config).invalid.into_iter();
            findings.extend(invalid.map(|(arn, invalid)| Finding {
                target_group_arn: Some(arn.to_string()),
                ..tag_invalid(&invalid)
            }));
        }
        Err(error) => findings.push(unlisted(&error)),
    }
    let (mut groups, too_many) = fleet.groups(config);
    findings.extend(too_many.map(|error| {
        let mend = "deploy the stack again for another fleet, and give some groups its tag";
        finding("fleet-too-large", Severity::Error, error.to_string(), mend)
    }));
    let all = groups.len();
    let most = MOST_EXAMINED.saturating_sub(config.target_groups.len());
    if all > most {
        fastrand::shuffle(&mut groups);
        groups.truncate(most);
        let seen = format!("{most} of the fleet's {all} groups were drawn and examined");
        let mend = "diagnose again: other groups are drawn";
        findings.push(finding(
            "fleet-examined-in-part",
            Severity::Info,
            seen,
            mend,
        ));
    }
    Discovered { groups, findings }
}

fn tag_invalid(invalid: &Error) -> Finding {
    let mend = "correct the tag with aws elbv2 add-tags; docs/fleet.md has what each tag may be";
    finding("tag-invalid", Severity::Error, invalid.to_string(), mend)
}

fn unlisted(error: &Error) -> Finding {
    let code = match error {
        Error::DiscoverFailed { cause, .. } => cause.code.as_deref(),
        _ => None,
    };
    match code.is_some_and(|code| code.starts_with("AccessDenied")) {
        true => finding(
            "permission-missing",
            Severity::Error,
            format!("tag:GetResources: {error}"),
            "allow tag:GetResources on * in the function's role",
        ),
        false => finding(
            "call-failed",
            Severity::Error,
            format!("tag:GetResources: {error}"),
            "diagnose again: no group of the fleet was judged; if no call gets an answer, let the function reach the \
             Resource Groups Tagging API, in a VPC through NAT or the interface endpoint tagging",
        ),
    }
}

fn finding(id: &'static str, severity: Severity, seen: String, mend: &str) -> Finding {
    Finding::new(id, severity, seen, mend.to_owned())
}
