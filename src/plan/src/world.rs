//! All that a plan may depend on.

use std::time::Duration;

use jiff::Timestamp;

use crate::{index::Index, memory::Memory, pods::Template};

/// One moment. The clock is read in one place, and this is what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the wall.
    pub wall: Timestamp,
    /// Since some moment in the past; it never goes back.
    pub steady: Duration,
}

impl Now {
    /// How long ago a moment of the steady clock was.
    #[must_use]
    pub fn since(&self, steady: Duration) -> Duration {
        self.steady.saturating_sub(steady)
    }
}

/// What is the same for all objects of an installation.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Makes pods.
    pub template: Template,
    /// How long trash is kept.
    pub retention: Duration,
}

/// All that a plan may depend on.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// What is known of the cluster.
    pub index: &'a Index,
    /// What is remembered between passes.
    pub memory: &'a Memory,
    /// What was configured.
    pub settings: &'a Settings,
    /// The moment.
    pub now: Now,
}
