//! The four calls to Elastic Load Balancing: they describe, register and deregister.

mod arn;
mod call;
mod change;
mod describe;
mod group;
mod properties;

pub use arn::TargetGroupArn;
pub use call::{Attempts, Limits, Stop};
pub use group::TargetGroup;
pub use properties::{
    Described, GROUPS_PER_CALL, Properties, UNFIT_PROTOCOLS, describe_target_groups,
};
