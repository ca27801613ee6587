//! Takes commands for a cache over HTTP, from clients that speak no Redis protocol.
//!
//! The Lambda [`function`] parses its [`config`], and reads a [`request`] from what [`rest`] or [`graphql`] was
//! sent. The [`commands`]
//! that are allowed go to the [`cache`], and each [`reply`] or [`error`] goes back. One [`record`] says what was done.
//! Whoever deploys the function can let it [`diagnose`] what a request would hang on.

#![forbid(unsafe_code)]

pub mod cache;
pub mod commands;
pub mod config;
pub mod diagnose;
pub mod error;
pub mod function;
pub mod graphql;
pub mod record;
pub mod reply;
pub mod request;
pub mod rest;
