//! The specification of the front door: the real function, and a cache that says what a test wants.

mod commands;
mod config;
mod corpus;
mod diagnose;
mod graphql;
mod iam;
mod peer;
mod resend;
mod rest;
mod template;
mod world;
