//! Supervision of the service: [`Plan`] decides and knows no I/O, [`start`] executes a program.

mod plan;
mod probing;
mod spawn;

pub use plan::{Plan, Step};
pub use spawn::{Launch, StartError, start};
