//! The function in memory, while its endpoint moves from [`OLD`], the group's one target, to [`NEW`].

use std::collections::BTreeSet;
use std::time::SystemTime;

use nlb_hostname_target::error::Errors;
use nlb_hostname_target::report::Report;
use stand_in::aws::Aws;
use stand_in::dns::{Source, Zone, addresses};
use stand_in::world::{self, ARN, ENDPOINT, Function, PORT};
use tokio::runtime::Builder;

pub const OLD: &str = "10.0.1.7";
pub const NEW: &str = "10.0.2.9";

/// Everything but what the input replaces is as it should be.
pub struct World {
    pub aws: Aws,
    function: Function,
}

/// Runs it under virtual time.
pub fn block_on(future: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(future);
}

impl World {
    /// Whose DNS server answers what is right, to IPv6 too.
    pub fn new() -> Self {
        let zone = Zone::default();
        zone.set(ENDPOINT, addresses([NEW, "2001:db8::9"]));
        World::that_asks((&zone).into())
    }

    pub fn that_asks(dns: Source) -> Self {
        let world = world::World::in_memory(SystemTime::now());
        world.aws.settle(ARN, OLD, PORT);
        let function = world.function_that_asks(dns);
        World {
            aws: world.aws,
            function,
        }
    }

    /// One scheduled invocation, which ends by itself before Lambda ends it.
    pub async fn invoke(&self) -> Result<Report, Errors> {
        self.function.schedule().await
    }

    pub async fn diagnose(&self) {
        self.function.diagnose().await;
    }

    /// The group as `address:port state`.
    pub fn group(&self) -> BTreeSet<String> {
        self.aws.summary(ARN).into_iter().collect()
    }
}
