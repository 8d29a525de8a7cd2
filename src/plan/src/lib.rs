//! Pure planning: observed state, spec and now to desired objects, status and decisions.
//!
//! Nothing here talks to a server, a disk or a clock; time comes in as a parameter.

pub mod checkpoint;
pub mod names;
pub mod patch;
pub mod placement;
pub mod pods;
pub mod pool;
pub mod progress;
pub mod quantity;
pub mod resources;
pub mod spark;
#[cfg(test)]
mod standing_tests;
pub mod volume;
