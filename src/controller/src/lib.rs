//! The controller: one pass for every kind. What a kind sees and plans is in `sparks_plan`, one folder for each; here is
//! what carries plans out.

pub mod act;
pub mod api;
pub mod beliefs;
pub mod config;
pub mod context;
pub mod driver;
pub mod kinds;
mod kube_api;
pub mod metrics;
pub mod run;
mod seal;
pub mod ssh;
mod watch;
