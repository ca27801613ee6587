//! These are a group's targets, as a decision sees them.

use std::net::SocketAddr;

use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
/// The state of a target in ELB's words. Only three states decide something: `initial`, `healthy` and `draining`.
pub use aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum as State;

/// An address and a port, as the target group knows them. Targets are ordered as the result lists them: IPv4
/// before IPv6, numerically, then by port. They are written `10.0.2.9:6379` or `[2001:db8::9]:6379`.
pub type Target = SocketAddr;

/// A target as `DescribeTargetHealth` returned it. The description is kept to the letter, because
/// `DeregisterTargets` passes it back.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedTarget {
    pub target: Target,
    pub description: TargetDescription,
    pub state: State,
}

impl DescribedTarget {
    /// False for a draining target, which is described and yet not registered.
    pub fn is_current(&self) -> bool {
        self.state != State::Draining
    }
}
