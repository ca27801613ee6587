//! The specification: what `nlb-hostname-target` promises, told by its tests.

mod config;
mod errors;
mod event;
mod invariants;
mod metrics;
mod plan;
mod scenarios;
mod template;
mod world;
