//! This module describes, registers and deregisters: it has the four calls to Elastic Load Balancing.

mod arn;
mod call;
mod change;
mod describe;
mod group;
mod properties;

pub use arn::TargetGroupArn;
pub use call::{Calls, Line, Sent, Stage};
pub use group::TargetGroup;
pub use properties::{Properties, UNFIT_PROTOCOLS, Unknown};
