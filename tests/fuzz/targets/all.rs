//! Every kind of input, with the function that takes it and panics if it does harm.

mod answers;
mod cloudwatch;
mod config;
mod described;
mod dns;
mod event;
mod load_balancing;
mod world;

type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 5] = [
    ("cloudwatch", cloudwatch::run),
    ("config", config::run),
    ("dns", dns::run),
    ("event", event::run),
    ("load_balancing", load_balancing::run),
];
