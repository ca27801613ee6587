//! The target group that the calls of a reconcile are about.

use aws_sdk_elasticloadbalancingv2::Client;
use tokio::time::Instant;

use super::arn::TargetGroupArn;
use super::call::{Attempts, Limits};
use crate::error::Error;
use crate::pace::Pace;
use crate::window::Deadline;

/// One target group, with the client to call, the pace of its calls and their attempts.
pub struct TargetGroup<'a> {
    pub client: &'a Client,
    pub arn: &'a TargetGroupArn,
    pub pace: &'a Pace,
    pub deadline: Deadline,
    pub reads: Attempts,
    pub changes: Attempts,
    /// What the reconcile fails with if the deadline comes before a refused change is sent again.
    pub refused: Option<Error>,
}

impl<'a> TargetGroup<'a> {
    pub fn new(
        client: &'a Client,
        arn: &'a TargetGroupArn,
        pace: &'a Pace,
        deadline: Deadline,
    ) -> Self {
        TargetGroup {
            client,
            arn,
            pace,
            deadline,
            reads: Attempts::default(),
            changes: Attempts::default(),
            refused: None,
        }
    }

    pub(super) fn limits(&self, act_by: Instant) -> Limits {
        let last_call = self.deadline.last_call;
        Limits { act_by, last_call }
    }
}
