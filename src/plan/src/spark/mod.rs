//! A Spark: what it was forked from, where it runs, which pod it is.

mod attach;
mod inherit;
mod observed;
mod plan;
mod service;
mod source;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use attach::owner_labels;
pub use attach::{claim_patch, volume_for};
pub use inherit::{effective, saved_spec};
pub use observed::{Observed, Start};
pub use plan::{Action, Event, Plan, plan};
pub use service::{name_taken, service};
pub use source::{Source, from_checkpoint, from_spark, of_image, restore_source};
