//! The function in memory, while its endpoint moves from [`OLD`], the group's one target, to [`NEW`].

use std::time::SystemTime;

use stand_in::dns::addresses;
use stand_in::world::{Function, World};
use tokio::runtime::Builder;

pub const OLD: &str = "10.0.1.7";
pub const NEW: &str = "10.0.2.9";

/// Runs a future under virtual time.
pub fn block_on(future: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(future);
}

/// Makes a world in which everything but what the input replaces is as it should be, including
/// IPv6.
pub fn moving() -> (World, Function) {
    let world = World::in_memory(SystemTime::now());
    world.settle(OLD);
    world.answer(addresses([NEW, "2001:db8::9"]));
    let function = world.function();
    (world, function)
}
