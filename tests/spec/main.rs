//! The specification: what `nlb-hostname-target` promises, told by its tests.

mod invariants;
mod world;
