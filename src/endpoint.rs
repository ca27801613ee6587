//! An endpoint is the DNS name that is followed, and is resolved to addresses.

mod lookup;
mod name;
mod resolver;

pub use lookup::{Found, Knowledge};
pub use name::Endpoint;
pub use resolver::{Dns, Resolver};
