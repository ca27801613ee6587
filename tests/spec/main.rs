//! The specification: what `nlb-hostname-target` promises, told by its tests.

mod alarms;
mod config;
mod dashboard;
mod deployment;
mod errors;
mod event;
mod hostile;
mod invariants;
mod metrics;
mod overlap;
mod plan;
mod polling;
mod scenarios;
mod secrets;
mod stack;
mod stress;
mod template;
mod virtual_world;
mod window;
mod world;
