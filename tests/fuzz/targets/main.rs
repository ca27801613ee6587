//! Feeds garbage to `nlb-hostname-target`. It must not cause a panic, a hang, or a change in a
//! target group that the garbage asked for. libFuzzer has the `main`; see ../run.

#![no_main]

#[path = "all.rs"]
mod all;

use std::env;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nlb_hostname_target::log;
use tracing::Level;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = env::var("FUZZ_TARGET").expect("FUZZ_TARGET is set");
    let target = all::TARGETS.into_iter().find(|(name, _)| *name == wanted);
    target
        .unwrap_or_else(|| panic!("FUZZ_TARGET is {wanted}"))
        .1
});

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
        if env::var_os("FUZZ_LOG").is_some() {
            log::init(Level::INFO);
        }
    },
    |input: &[u8]| TARGET(input)
);
