//! Describe, register and deregister: the four calls to Elastic Load Balancing, for one target
//! group.

mod arn;
mod change;
mod describe;

use aws_sdk_elasticloadbalancingv2::Client;

pub use arn::TargetGroupArn;
pub use describe::Properties;

/// The calls to one target group. A change hands over what ELB acknowledged call by call, so that
/// it is known also if the deadline cuts the rest, and returns what failed; one failure does not
/// keep the other calls back.
pub struct TargetGroup<'a> {
    pub client: &'a Client,
    pub arn: &'a TargetGroupArn,
}
