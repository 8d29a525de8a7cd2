//! How much of the volume recordings may take: who shows much must not stop those whose sessions have to be recorded.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{RecordError, size};

/// What a file takes besides its bytes, about.
const FILE: u64 = 4096;
/// The volume is asked for its free space whenever so much was written.
const ASK_EVERY: u64 = 1 << 20;

/// Limits of recordings.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Limits {
    /// Longest recording of one session, such as 256Mi.
    #[arg(long, env = "SPARKS_RECORDINGS_MAX_BYTES", default_value = "256Mi", value_parser = size::parse)]
    pub recordings_max_bytes: u64,
    /// What all recordings of a namespace may take of the volume, such as 4Gi.
    #[arg(long, env = "SPARKS_RECORDINGS_NAMESPACE_MAX_BYTES", default_value = "4Gi", value_parser = size::parse)]
    pub recordings_namespace_max_bytes: u64,
    /// What recordings leave free on the volume, such as 256Mi.
    #[arg(long, env = "SPARKS_RECORDINGS_FREE_BYTES", default_value = "256Mi", value_parser = size::parse)]
    pub recordings_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recordings_max_bytes: 256 << 20,
            recordings_namespace_max_bytes: 4 << 30,
            recordings_free_bytes: 256 << 20,
        }
    }
}

/// The account of a volume. What other replicas write is in it after the next [`Space::count`].
#[derive(Debug)]
pub struct Space {
    root: PathBuf,
    limits: Limits,
    /// By namespace.
    used: Mutex<HashMap<String, Arc<AtomicU64>>>,
    /// Bytes since the volume was asked for its free space and had some.
    since_asked: AtomicU64,
}

impl Space {
    /// That of the volume which has this folder.
    pub fn new(root: PathBuf, limits: Limits) -> Arc<Self> {
        Arc::new(Self { root, limits, used: Mutex::default(), since_asked: AtomicU64::new(ASK_EVERY) })
    }

    /// The share of a recording of this namespace.
    pub fn share(self: &Arc<Self>, namespace: &str) -> Share {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.entry(namespace.to_owned()).or_default().clone();
        Share { space: self.clone(), namespace: namespace.to_owned(), used }
    }

    /// Begins the account anew, with the namespaces and lengths of all files.
    pub fn count(&self, files: impl Iterator<Item = (String, u64)>) {
        let mut found: HashMap<String, u64> = HashMap::new();
        for (namespace, length) in files {
            *found.entry(namespace).or_default() += FILE + length;
        }
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|namespace, used| found.contains_key(namespace) || Arc::strong_count(used) > 1);
        for namespace in all.keys() {
            found.entry(namespace.clone()).or_default();
        }
        for (namespace, bytes) in found {
            all.entry(namespace).or_default().store(bytes, Ordering::Relaxed);
        }
    }

    fn check_volume(&self, bytes: u64) -> Result<(), RecordError> {
        if self.since_asked.fetch_add(bytes, Ordering::Relaxed) < ASK_EVERY {
            return Ok(());
        }
        let volume = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from)?;
        let free = self.limits.recordings_free_bytes;
        if volume.f_bavail.saturating_mul(volume.f_frsize) < free.saturating_add(bytes) {
            return Err(RecordError::VolumeFull(free));
        }
        self.since_asked.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// What one recording takes.
#[derive(Debug)]
pub struct Share {
    space: Arc<Space>,
    namespace: String,
    used: Arc<AtomicU64>,
}

impl Share {
    /// Takes what a new file needs.
    pub fn take_file(&self) -> Result<(), RecordError> {
        self.take(0, FILE)
    }

    /// Takes so many bytes more for a recording of this length.
    pub fn take(&self, length: u64, bytes: u64) -> Result<(), RecordError> {
        let limits = &self.space.limits;
        if length + bytes > limits.recordings_max_bytes {
            return Err(RecordError::TooLong(limits.recordings_max_bytes));
        }
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let checked = if used > limits.recordings_namespace_max_bytes {
            let limit = limits.recordings_namespace_max_bytes;
            Err(RecordError::NamespaceFull { namespace: self.namespace.clone(), limit })
        } else {
            self.space.check_volume(bytes)
        };
        if checked.is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        checked
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MANY: Limits = Limits {
        recordings_max_bytes: 1 << 30,
        recordings_namespace_max_bytes: 1 << 30,
        recordings_free_bytes: 0,
    };

    fn space(limits: Limits) -> Arc<Space> {
        Space::new("/tmp".into(), limits)
    }

    #[test]
    fn a_recording_has_a_longest_length() {
        let share = space(Limits { recordings_max_bytes: 100, ..MANY }).share("a");
        share.take(0, 100).unwrap();
        assert!(matches!(share.take(100, 1), Err(RecordError::TooLong(100))));
    }

    #[test]
    fn the_recordings_of_a_namespace_share_its_space_and_no_other_has_less_for_it() {
        let space = space(Limits { recordings_namespace_max_bytes: 100, ..MANY });
        let [one, two, other] = ["a", "a", "b"].map(|namespace| space.share(namespace));
        one.take(0, 60).unwrap();
        assert!(matches!(two.take(0, 60), Err(RecordError::NamespaceFull { limit: 100, .. })));
        two.take(0, 40).unwrap();
        assert!(one.take(60, 1).is_err());
        other.take(0, 100).unwrap();
    }

    #[test]
    fn what_is_found_on_the_volume_replaces_the_account() {
        let space = space(Limits { recordings_namespace_max_bytes: 3 * FILE, ..MANY });
        let written = space.share("a");
        written.take(0, 3 * FILE).unwrap();
        drop(space.share("b"));
        space.count([("a".to_owned(), 100), ("c".to_owned(), 2 * FILE)].into_iter());
        written.take(0, 2 * FILE - 100).unwrap();
        assert!(written.take(0, 1).is_err() && space.share("c").take(0, 1).is_err());
        space.count(std::iter::empty());
        written.take(0, 3 * FILE).unwrap();
        assert_eq!(space.used.lock().unwrap().len(), 1, "one that nobody writes in");
    }

    #[test]
    fn a_reserve_stays_free_on_the_volume() {
        let space = space(Limits { recordings_free_bytes: u64::MAX, ..MANY });
        for _ in 0..2 {
            let refused = space.share("a").take(0, 1);
            assert!(matches!(refused, Err(RecordError::VolumeFull(u64::MAX))), "{refused:?}");
        }
        assert_eq!(space.share("a").used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_volume_is_not_asked_for_every_event() {
        let mut space = Space::new("/tmp".into(), MANY);
        space.share("a").take(0, 1).unwrap();
        Arc::get_mut(&mut space).unwrap().limits.recordings_free_bytes = u64::MAX;
        let share = space.share("a");
        let taken = (0..).take_while(|_| share.take(0, 1000).is_ok()).count() as u64;
        assert!((ASK_EVERY / 1000..ASK_EVERY / 1000 + 2).contains(&taken), "{taken}");
    }
}
