//! Keeps the IP targets of a Network Load Balancer target group in step with a DNS name.
//!
//! An invocation of the Lambda function reads its [`config`] and its [`event`], and for every
//! target group runs a [`reconcile`], again and again as long as its [`window`] says: it resolves the
//! [`endpoint`]s and describes the [`target_group`], makes a [`plan`], applies it, and reports what
//! came of it as [`metrics`] and as the [`report`] that the [`function`] answers.
//! A [`deployment`] asks for one too, and is told whether it succeeded. Or it [`diagnose`]s, and changes nothing.

#![forbid(unsafe_code)]

pub mod aws;
pub mod config;
pub mod deployment;
pub mod diagnose;
pub mod endpoint;
pub mod error;
pub mod event;
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
