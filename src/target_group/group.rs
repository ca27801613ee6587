//! The target group that the calls are about.

use aws_sdk_elasticloadbalancingv2::Client;

use super::arn::TargetGroupArn;
use super::call::Calls;

/// One target group, and the client to call.
pub struct TargetGroup<'a> {
    pub client: &'a Client,
    pub arn: &'a TargetGroupArn,
    pub calls: Calls<'a>,
}
