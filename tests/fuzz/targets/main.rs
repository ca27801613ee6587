//! Feeds garbage to `nlb-hostname-target`, and to the front door. It must not cause a panic, a hang, or a change in a
//! target group that the garbage asked for. libFuzzer has the `main`; see ../run.

#![no_main]

#[path = "all.rs"]
mod all;
#[path = "request.rs"]
mod request;

use std::env;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nlb_hostname_target::log;
use tracing::Level;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = env::var("FUZZ_TARGET").expect("FUZZ_TARGET is set");
    let of_the_front_door = [("request", request::run as fn(&[u8]))];
    let mut targets = all::TARGETS.into_iter().chain(of_the_front_door);
    let target = targets.find(|(name, _)| *name == wanted);
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
