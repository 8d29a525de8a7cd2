//! Pure planning: observed state, spec and now to desired objects, status and decisions.
//!
//! Nothing here talks to a server, a disk or a clock; time comes in as a parameter.

pub mod action;
pub mod checkpoint;
pub mod index;
pub mod kind;
pub mod known;
pub mod memory;
pub mod names;
pub mod patch;
pub mod placement;
pub mod pods;
pub mod pool;
pub mod progress;
pub mod quantity;
pub mod resources;
pub mod spark;
pub mod stored;
pub mod volume;
pub mod watched;
pub mod world;

#[cfg(test)]
mod standing_tests;
