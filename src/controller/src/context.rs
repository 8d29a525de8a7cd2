//! What every pass has.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use jiff::Timestamp;
use sparks_plan::{
    index::{Index, Reference},
    memory::Memory,
    world::{Now, Settings, World},
};

use crate::{api::Api, beliefs::Beliefs, metrics::Metrics, ssh};

/// What tells the time.
pub trait Clock: Send + Sync {
    /// This moment.
    fn now(&self) -> Now;
}

/// The machine's own.
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: Timestamp::now(), steady: self.0.elapsed() }
    }
}

/// What every pass has.
pub struct Context {
    /// The API server.
    pub api: Arc<dyn Api>,
    /// What is known of the cluster.
    pub index: RwLock<Index>,
    /// What is remembered between passes.
    pub memory: Memory,
    /// What was configured.
    pub settings: Settings,
    /// The time.
    pub clock: Box<dyn Clock>,
    /// Metrics.
    pub metrics: Metrics,
    /// What the last pass of each object came to.
    pub beliefs: Beliefs,
    /// The installation's SSH keys.
    pub installation: ssh::Installation,
    /// What was read for `ssh.authorizedKeysFrom` lately.
    pub key_sources: ssh::Sources,
}

impl Context {
    /// Looks at all that is known now.
    pub fn look<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> T {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let world =
            World { index: &index, memory: &self.memory, settings: &self.settings, now: self.clock.now() };
        look(&world)
    }

    /// Takes in news of the cluster; answers what is to be looked at because of it.
    pub fn learn(&self, news: impl FnOnce(&mut Index, &Memory, Now) -> Vec<Reference>) -> Vec<Reference> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        news(&mut index, &self.memory, self.clock.now())
    }
}
