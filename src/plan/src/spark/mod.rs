//! A Spark: what it was forked from, where it runs, which pod it is.

mod action;
mod attach;
mod inherit;
mod observed;
#[cfg(test)]
pub(crate) mod phase_tests;
mod plan;
mod service;
mod sleep;
#[cfg(test)]
mod sleep_tests;
mod source;
mod ssh;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use action::{Action, Event, Plan};
pub(crate) use attach::owner_labels;
pub use attach::{claim_patch, volume_for};
pub use inherit::{effective, saved_spec};
pub use observed::{Observed, Start};
pub use plan::{key_sources, plan};
pub use service::{name_taken, service};
pub use sleep::asleep;
pub use source::{Source, from_checkpoint, from_spark, of_image, restore_source};
pub use ssh::SshFound;
