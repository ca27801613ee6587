//! Finds what is wrong with a deployment, without changing anything. It gathers what can be seen.
//! A pure function then says what cannot work or will hurt in a failover.

mod finding;
mod fleet;
mod judge;
mod look;
mod seen;

use hickory_resolver::net::runtime::RuntimeProvider;

pub use finding::{Finding, Findings, Severity};
pub use fleet::{Discovered, discover};
pub use judge::config_invalid;
pub use look::Looker;

/// Gathers what can be seen, and judges it. The findings about the fleet are among those that it returns.
pub async fn diagnose<P: RuntimeProvider>(
    looker: &Looker<'_, P>,
    of_fleet: Vec<Finding>,
) -> Findings {
    let seen = looker.look().await;
    judge::judge(looker.config, &seen, of_fleet)
}
