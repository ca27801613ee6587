//! The name that is followed, and how it becomes addresses.

mod lookup;
mod name;
mod resolver;

pub use lookup::Found;
pub use name::Endpoint;
pub use resolver::{Dns, Resolver};
