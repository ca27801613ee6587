//! The specification: what `nlb-hostname-target` promises, told by its tests.

mod alarms;
mod config;
mod dashboard;
mod deployment;
mod dry_run;
mod errors;
mod event;
mod hostile;
mod invariants;
mod log;
mod metrics;
mod overlap;
mod plan;
mod polling;
mod publish;
mod reading;
mod reconcile;
mod resolve;
mod secrets;
mod services;
mod stack;
mod stress;
mod template;
mod window;
mod zone;
