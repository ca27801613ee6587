//! What a target group has, as a decision sees it.

use std::net::SocketAddr;

use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
/// The state of a target in ELB's words. Only three of them decide something: `initial`, `healthy` and
/// `draining`.
pub use aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum as State;

/// Address and port, as the target group knows it. Ordered as the result lists them: IPv4 before
/// IPv6, numerically, then by port; written `10.0.2.9:6379` or `[2001:db8::9]:6379`.
pub type Target = SocketAddr;

/// A target as `DescribeTargetHealth` returned it. The description is kept to the letter, since
/// deregistering passes it back.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedTarget {
    pub target: Target,
    pub description: TargetDescription,
    pub state: State,
}

impl DescribedTarget {
    /// A draining target is described and yet not registered.
    pub fn is_current(&self) -> bool {
        self.state != State::Draining
    }
}
