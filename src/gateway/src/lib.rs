//! SSH and HTTP into every Spark: one address for all of them, which wakes those that sleep.

pub mod config;
pub mod directory;
pub mod http;
pub mod recording;
pub mod run;
pub mod secrets;
pub mod ssh;
mod taps;
