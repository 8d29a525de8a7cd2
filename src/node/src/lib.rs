//! The node agent: it makes the disks of Volumes on this node and attaches them to pods that already run.
//!
//! Start at [`agent`] for what runs, and at [`volume`] for what happens to one Volume:
//! `gather` (observe) → `plan` (pure) → `apply` (act) → `status` (pure) → one write.

pub mod agent;
pub mod computer;
pub mod config;
mod events;
mod exits;
pub mod guest;
mod heartbeat;
mod import;
mod inventory;
mod metrics;
mod pods;
mod seal;
mod trash;
mod triggers;
mod usage;
pub mod volume;
mod watch;
