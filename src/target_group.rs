//! Describe, register and deregister: the four calls to Elastic Load Balancing, for one target
//! group.

mod arn;
mod change;
mod describe;
mod group;

pub use arn::TargetGroupArn;
pub use change::Sent;
pub use describe::Properties;
pub use group::TargetGroup;
