//! What is wrong with a deployment, found without changing anything: what can be seen is looked at, and a
//! pure function says what of it cannot work or will hurt in a failover.

mod finding;
mod judge;
mod look;
mod seen;

use hickory_resolver::net::runtime::RuntimeProvider;

pub use finding::{Finding, Findings, Severity};
pub use judge::config_invalid;
pub use look::Looker;

/// Looks, and judges what was seen.
pub async fn diagnose<P: RuntimeProvider>(looker: &Looker<'_, P>) -> Findings {
    let seen = looker.look().await;
    judge::judge(looker.config, &seen)
}
