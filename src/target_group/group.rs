//! The target group that the calls are about.

use aws_sdk_elasticloadbalancingv2::Client;

use super::arn::TargetGroupArn;
use super::call::Calls;

/// One target group, with the client to call and the pace of its calls.
pub struct TargetGroup<'a> {
    pub client: &'a Client,
    pub arn: &'a TargetGroupArn,
    pub calls: Calls<'a>,
}
