//! Files: `NAMESPACE/SPARK/ID.cast`, and `ID.partial` as long as the session goes on, locked by the replica that writes.

use std::{
    fs::{self, DirBuilder, File},
    hash::{BuildHasher, Hasher, RandomState},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use spark_client::recordings::Summary;

use super::{
    RecordError,
    cast::Header,
    file::{Recording, is_wreck, read_header, read_trailer},
    limits::{Limits, Space},
};

pub(super) const DONE: &str = "cast";
const OPEN: &str = "partial";

/// A folder of recordings.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    space: Arc<Space>,
}

impl Store {
    /// Uses this folder.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn open(root: PathBuf) -> Result<Self, RecordError> {
        Self::limited(root, Limits::default())
    }

    /// Uses this folder, and takes no more of its volume than this.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn limited(root: PathBuf, limits: Limits) -> Result<Self, RecordError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let space = Space::new(root.clone(), limits);
        Ok(Self { root, space })
    }

    /// Begins a recording.
    pub(super) fn begin(&self, header: &Header) -> Result<Recording, RecordError> {
        let folder = self.folder(&header.sparks.namespace, &header.sparks.spark)?;
        let share = self.space.share(&header.sparks.namespace);
        share.take_file()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Recording::begin(folder.join(format!("{}.{OPEN}", new_id())), header, share)
    }

    /// Counts anew what each namespace takes of the volume.
    pub(super) fn count(&self) {
        let files = self.everything().into_iter().filter_map(|path| {
            let namespace = path.parent()?.parent()?.file_name()?.to_str()?.to_owned();
            Some((namespace, fs::metadata(&path).ok()?.len()))
        });
        self.space.count(files);
    }

    /// The recordings of a Spark, or of a whole namespace, oldest first.
    ///
    /// # Errors
    /// A name that is none; what can't be read is left out.
    pub fn list(&self, namespace: &str, spark: Option<&str>) -> Result<Vec<Summary>, RecordError> {
        let mut all: Vec<Summary> =
            self.paths(namespace, spark)?.iter().filter_map(|path| summary(path)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// The file of a recording, if it is there.
    ///
    /// # Errors
    /// A name that is none.
    pub fn path(&self, namespace: &str, spark: &str, id: &str) -> Result<Option<PathBuf>, RecordError> {
        let folder = self.folder(namespace, spark)?;
        let id = name(id)?;
        Ok([DONE, OPEN].iter().map(|kind| folder.join(format!("{id}.{kind}"))).find(|path| path.is_file()))
    }

    pub(super) fn paths(&self, namespace: &str, spark: Option<&str>) -> Result<Vec<PathBuf>, RecordError> {
        let folders = match spark {
            Some(spark) => vec![self.folder(namespace, spark)?],
            None => entries(&self.root.join(name(namespace)?)),
        };
        let is_recording = |path: &PathBuf| extension(path) == Some(DONE) || extension(path) == Some(OPEN);
        Ok(folders.iter().flat_map(|folder| entries(folder)).filter(is_recording).collect())
    }

    /// Removes recordings that ended longer ago, and what was never to become one.
    pub(super) fn prune(&self, retention: Duration) {
        let old = |path: &PathBuf| {
            let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
            changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > retention))
        };
        let over = |path: &PathBuf| match extension(path) {
            Some(DONE) => true,
            Some(OPEN) => is_wreck(path),
            _ => false,
        };
        for path in self.everything().into_iter().filter(old).filter(over) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an old recording can't be removed");
            }
        }
    }

    /// The files of recordings that have not ended, or that nobody has ended yet.
    pub(super) fn unfinished(&self) -> Vec<PathBuf> {
        self.everything().into_iter().filter(|path| extension(path) == Some(OPEN)).collect()
    }

    fn everything(&self) -> Vec<PathBuf> {
        let namespaces = entries(&self.root);
        namespaces.iter().flat_map(|n| entries(n)).flat_map(|spark| entries(&spark)).collect()
    }

    fn folder(&self, namespace: &str, spark: &str) -> Result<PathBuf, RecordError> {
        Ok(self.root.join(name(namespace)?).join(name(spark)?))
    }
}

fn summary(path: &Path) -> Option<Summary> {
    let mut file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let header = read_header(&mut file).ok()?;
    let id = path.file_stem()?.to_str()?.to_owned();
    let trailer = (extension(path) == Some(DONE)).then(|| read_trailer(&mut file, bytes)).flatten();
    Some(Summary { id, header, trailer, bytes })
}

/// Names become paths, so they are held to what Kubernetes allows.
fn name(text: &str) -> Result<&str, RecordError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 128 || !text.chars().all(allowed) {
        return Err(RecordError::Name(text.chars().take(64).collect()));
    }
    Ok(text)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// Sorts by time.
fn new_id() -> String {
    let random = RandomState::new().build_hasher().finish() & 0xffff_ffff;
    let now = jiff::Timestamp::now();
    format!("{}-{:06}-{random:08x}", now.strftime("%Y%m%dT%H%M%S"), now.subsec_microsecond())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
