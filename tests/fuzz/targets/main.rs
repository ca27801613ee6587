//! What `nlb-hostname-target` is fed with, and what must not come of it: a panic, a hang, or a
//! change in a target group that garbage asked for. libFuzzer has the `main`; see ../run.

#![no_main]

mod answers;
mod cloudwatch;
mod config;
mod described;
mod dns;
mod event;
mod load_balancing;
mod world;

use std::env;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nlb_hostname_target::log;
use tracing::Level;

/// What takes the input, and panics when it does harm.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| match env::var("FUZZ_TARGET").as_deref() {
    Ok("cloudwatch") => cloudwatch::run,
    Ok("config") => config::run,
    Ok("dns") => dns::run,
    Ok("event") => event::run,
    Ok("load_balancing") => load_balancing::run,
    other => panic!("FUZZ_TARGET is {other:?}"),
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
