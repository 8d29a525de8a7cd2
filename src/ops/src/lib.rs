//! Chassis of every server: tracing, metrics, admin HTTP, leader lease, shutdown.

pub mod admin;
pub mod latency;
pub mod leader;
pub mod logging;
pub mod queue;
pub mod shutdown;

pub use logging::{LogFormat, init_tracing};
