//! Keeps the IP targets of a Network Load Balancer target group in step with a DNS name.
//!
//! The Lambda [`function`] parses its [`config`] and reads its [`event`]. An [`invocation`] reconciles every
//! target group for as long as its [`window`] says. A [`reconcile`] resolves the [`endpoint`]s, describes the
//! [`target_group`], decides by the [`plan`] and applies that. More groups are found as the [`fleet`]. The outcome is published as [`metrics`] and returned as
//! the [`report`]. A [`deployment`] asks for a reconcile too, and is told whether it succeeded. The function
//! can also [`diagnose`] the deployment, which changes nothing.

#![forbid(unsafe_code)]

pub mod aws;
pub mod config;
pub mod deployment;
pub mod diagnose;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod fleet;
pub mod function;
pub mod invocation;
pub mod log;
pub mod metrics;
pub mod pace;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod target_group;
pub mod window;
