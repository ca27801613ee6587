//! Connects to a cache as a client does, step by step, and finds what a client hangs on. The drill and the front door
//! use it, and each says what to do about a [`Problem`].

#![forbid(unsafe_code)]

mod attempt;
mod client;
mod failure;
mod finding;
mod problem;

pub use attempt::{Attempt, Work, attempt};
pub use client::{Client, Connection, connector};
pub use failure::{Failure, Step};
pub use finding::{Finding, Findings, Severity};
pub use problem::{Problem, findings};
