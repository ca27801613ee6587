//! What a target group has, as a decision sees it.

use std::fmt;
use std::net::SocketAddr;

/// Address and port, as the target group knows it. Ordered as the result lists them: IPv4 before
/// IPv6, numerically, then by port; written `10.0.2.9:6379` or `[2001:db8::9]:6379`.
pub type Target = SocketAddr;

/// The state of a target. Only three of ELB's states decide something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was registered a moment ago and is not health-checked yet.
    Initial,
    Healthy,
    /// It was deregistered a moment ago and finishes its connections.
    Draining,
    /// It is registered, and has this state in ELB's words.
    Other(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Initial => "initial",
            State::Healthy => "healthy",
            State::Draining => "draining",
            State::Other(state) => state,
        })
    }
}

/// A target as `DescribeTargetHealth` returned it. `id` and `zone` are kept to the letter, since
/// deregistering passes back what was described.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescribedTarget {
    pub target: Target,
    pub id: String,
    pub zone: Option<String>,
    pub state: State,
}

impl DescribedTarget {
    /// A draining target is described and yet not registered.
    pub fn is_current(&self) -> bool {
        self.state != State::Draining
    }
}
