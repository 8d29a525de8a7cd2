//! What the agent remembers of a Volume. All of it can be lost: after a restart it is found out again.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

use sparks_api::VolumeStatus;
use sparks_host::pool::DiskUsage;
use tokio::time::Instant;

use crate::computer::Opened;

/// One Volume.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// How long the making of the disks took.
    pub snapshot_micros: Option<i64>,
    /// The last attach.
    pub attach: Option<Attach>,
    /// What the disks held when it was last measured.
    pub usage: Vec<DiskUsage>,
    /// When the first change came that no status shows yet.
    pub began: Option<Instant>,
    /// The status that was written last.
    pub written: Option<Written>,
    /// What was opened last, with a hash of what it was opened from.
    pub opened: Option<(u64, Opened)>,
}

/// An attach that this process did.
#[derive(Clone, Debug)]
pub struct Attach {
    /// To which container.
    pub container: String,
    /// When it was done.
    pub at: Instant,
    /// How long it took.
    pub micros: i64,
    /// How long the service took after it.
    pub service_micros: Option<i64>,
}

/// A written status.
#[derive(Clone, Debug)]
pub struct Written {
    /// When.
    pub at: Instant,
    /// Writes in quick succession up to this one.
    pub burst: u32,
    /// What.
    pub status: VolumeStatus,
}

/// All Volumes, by uid.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// Looks at or changes what is remembered.
    pub fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(all.entry(uid.to_owned()).or_default())
    }

    /// Forgets all but these.
    pub fn retain(&self, known: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| known(uid));
    }

    /// Forgets one.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Tells values apart.
pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
