//! Files: `NAMESPACE/SPARK/ID.cast`, and `ID.partial` as long as the session goes on, locked by the replica that writes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

pub use spark_client::recordings::{Summary, Trailer};

use super::{
    RecordError,
    cast::{Encoder, Event, Header},
};

const DONE: &str = "cast";
const OPEN: &str = "partial";
/// Begins the last line, which a player takes for a comment.
const TRAILER: &str = "# sparks ";
/// Longest first or last line of a recording.
const MAX_LINE: u64 = 64 * 1024;

/// A folder of recordings.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// A recording that is being made.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    encoder: Encoder,
    began: Instant,
    exit: Option<String>,
}

/// A recording to which nothing is added but its last line.
#[derive(Debug)]
pub struct Ended {
    pub(super) file: File,
    path: PathBuf,
    /// Where the last line begins.
    length: u64,
    pub(super) header: Header,
    pub(super) trailer: Trailer,
}

impl Store {
    /// Uses this folder.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn open(root: PathBuf) -> Result<Self, RecordError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { root })
    }

    /// Begins a recording.
    pub(super) fn begin(&self, header: &Header) -> Result<Recording, RecordError> {
        let folder = self.folder(&header.sparks.namespace, &header.sparks.spark)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(format!("{}.{OPEN}", new_id()));
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        // Without its whole header it is none.
        file.lock().and_then(|()| file.write_all(&line)).inspect_err(|_| drop(fs::remove_file(&path)))?;
        let now = Instant::now();
        Ok(Recording { file, path, encoder: Encoder::new(now), began: now, exit: None })
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
        let over = |path: &PathBuf| extension(path) == Some(DONE) || is_wreck(path);
        for path in self.everything().into_iter().filter(old).filter(over) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an old recording can't be removed");
            }
        }
    }

    /// Recordings whose replica is gone: nobody holds their lock.
    pub(super) fn orphans(&self) -> Vec<Ended> {
        let open = self.everything().into_iter().filter(|path| extension(path) == Some(OPEN));
        open.filter_map(|path| {
            adopt(path.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "a recording that a dead replica left can't be read; it goes when it is old");
                None
            })
        })
        .collect()
    }

    fn everything(&self) -> Vec<PathBuf> {
        let namespaces = entries(&self.root);
        namespaces.iter().flat_map(|n| entries(n)).flat_map(|spark| entries(&spark)).collect()
    }

    fn folder(&self, namespace: &str, spark: &str) -> Result<PathBuf, RecordError> {
        Ok(self.root.join(name(namespace)?).join(name(spark)?))
    }
}

impl Recording {
    /// Name of the recording.
    pub fn id(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Adds an event. It is with the operating system when this returns.
    pub fn event(&mut self, event: &Event<'_>, now: Instant) -> Result<(), RecordError> {
        if let Event::Exit(status) = event {
            self.exit = Some((*status).to_owned());
        }
        if let Some(line) = self.encoder.line(event, now) {
            self.file.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub fn into_ended(mut self) -> Result<Ended, RecordError> {
        if let Some(rest) = self.encoder.rest() {
            self.file.write_all(rest.as_bytes())?;
        }
        let trailer = Trailer {
            seconds: self.began.elapsed().as_millis() as f64 / 1000.0,
            exit: self.exit,
            previous: String::new(),
        };
        let header = read_header(&mut self.file)?;
        let length = self.file.metadata()?.len();
        Ok(Ended { file: self.file, path: self.path, length, header, trailer })
    }
}

impl Ended {
    /// Writes the last line, in place of an earlier one.
    pub(super) fn write_trailer(&mut self, previous: String) -> Result<(), RecordError> {
        self.trailer.previous = previous;
        self.file.set_len(self.length)?;
        let line = format!("{TRAILER}{}\n", serde_json::to_string(&self.trailer)?);
        self.file.write_all(line.as_bytes())?;
        self.file.sync_all()?;
        Ok(())
    }

    /// The whole file, from its beginning.
    pub(super) fn reader(&mut self) -> Result<&mut File, RecordError> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }

    /// Name of the recording.
    pub(super) fn id(&self) -> String {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
    }

    /// Takes its final name.
    pub(super) fn publish(self) -> Result<(), RecordError> {
        fs::rename(&self.path, self.path.with_extension(DONE))?;
        Ok(())
    }
}

/// Takes over a recording that nobody writes.
fn adopt(path: PathBuf) -> Result<Option<Ended>, RecordError> {
    let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
        // Another replica was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let header = read_header(&mut file)?;
    let (mut length, mut seconds, mut trailer) = (0, 0.0, None);
    file.seek(SeekFrom::Start(0))?;
    let mut lines = BufReader::new(&mut file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        match line.strip_prefix(TRAILER.as_bytes()) {
            Some(text) => trailer = serde_json::from_slice::<Trailer>(text).ok(),
            // Half a line at the end is not kept.
            None if line.last() == Some(&b'\n') => length += line.len() as u64,
            None => {}
        }
        if let Ok((since, _, _)) = serde_json::from_slice::<(f64, String, String)>(&line) {
            seconds += since;
        }
        line.clear();
    }
    let trailer = trailer.unwrap_or(Trailer { seconds, exit: Some("lost".into()), previous: String::new() });
    Ok(Some(Ended { file, path, length, header, trailer }))
}

/// Whether nobody writes this recording, and it has no header to end it by.
fn is_wreck(path: &Path) -> bool {
    // A lock needs a file that is open for writing, on NFS.
    let Ok(mut file) = OpenOptions::new().read(true).append(true).open(path) else { return false };
    extension(path) == Some(OPEN)
        && file.try_lock().is_ok()
        && matches!(read_header(&mut file), Err(RecordError::Json(_)))
}

fn summary(path: &Path) -> Option<Summary> {
    let mut file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let header = read_header(&mut file).ok()?;
    let id = path.file_stem()?.to_str()?.to_owned();
    let trailer = (extension(path) == Some(DONE)).then(|| read_trailer(&mut file, bytes)).flatten();
    Some(Summary { id, header, trailer, bytes })
}

fn read_header(file: &mut File) -> Result<Header, RecordError> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(Read::take(&mut *file, MAX_LINE)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

fn read_trailer(file: &mut File, length: u64) -> Option<Trailer> {
    file.seek(SeekFrom::Start(length.saturating_sub(1024))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let last = text.lines().last()?.strip_prefix(TRAILER)?;
    serde_json::from_str(last).ok()
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::recording::cast::Origin;

    fn header() -> Header {
        let sparks = Origin { namespace: "team-a".into(), spark: "api".into(), ..Default::default() };
        Header { version: 3, sparks, ..Default::default() }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("recordings")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_recording_is_listed_while_it_goes_on_and_when_it_has_ended() {
        let (_folder, store) = store();
        let mut recording = store.begin(&header()).unwrap();
        recording.event(&Event::Output(b"hello"), Instant::now()).unwrap();
        recording.event(&Event::Exit("3"), Instant::now()).unwrap();
        assert_eq!(store.list("team-a", None).unwrap()[0].trailer, None);
        let mut ended = recording.into_ended().unwrap();
        for previous in ["aa", "bb"] {
            ended.write_trailer(previous.into()).unwrap();
        }
        ended.publish().unwrap();
        let all = store.list("team-a", Some("api")).unwrap();
        let trailer = all[0].trailer.clone().unwrap();
        assert_eq!((all.len(), trailer.previous.as_str(), trailer.exit.as_deref()), (1, "bb", Some("3")));
        let text = fs::read_to_string(store.path("team-a", "api", &all[0].id).unwrap().unwrap()).unwrap();
        assert_eq!(text.lines().count(), 4, "header, output, exit, one last line: {text}");
    }

    #[test]
    fn what_a_dead_replica_left_is_ended_and_what_a_living_one_writes_is_not_touched() {
        let (_folder, store) = store();
        let mut recording = store.begin(&header()).unwrap();
        recording.event(&Event::Output(b"x"), Instant::now()).unwrap();
        assert!(store.orphans().is_empty());
        recording.file.write_all(b"[0.0, \"o\", \"hal").unwrap();
        drop(recording);
        let mut orphans = store.orphans();
        assert_eq!(orphans[0].trailer.exit.as_deref(), Some("lost"));
        orphans[0].write_trailer("p".into()).unwrap();
        orphans.remove(0).publish().unwrap();
        let all = store.list("team-a", None).unwrap();
        let text = fs::read_to_string(store.path("team-a", "api", &all[0].id).unwrap().unwrap()).unwrap();
        assert!(!text.contains("hal") && text.lines().last().unwrap().starts_with(TRAILER), "{text}");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (_folder, store) = store();
        for bad in ["..", "a/b", "", ".", "a\0"] {
            assert!(store.list(bad, None).is_err() && store.path("a", "b", bad).is_err(), "{bad:?}");
            assert!(store.list("a", Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_has_ended_and_is_old_is_removed() {
        let (_folder, store) = store();
        let open = store.begin(&header()).unwrap();
        let mut ended = store.begin(&header()).unwrap().into_ended().unwrap();
        ended.write_trailer(String::new()).unwrap();
        ended.publish().unwrap();
        store.prune(Duration::from_secs(3600));
        assert_eq!(store.list("team-a", None).unwrap().len(), 2);
        store.prune(Duration::ZERO);
        let left = store.list("team-a", None).unwrap();
        assert_eq!((left.len(), left[0].id.as_str()), (1, open.id()));
    }

    #[test]
    fn what_nobody_writes_and_has_no_header_is_removed_when_it_is_old() {
        let (_folder, store) = store();
        let written = store.begin(&header()).unwrap();
        let wrecks = ["", "{", &format!("{{{}}}\n", " ".repeat(100_000))].map(|text| {
            let path = store.begin(&header()).unwrap().path;
            fs::write(&path, text).unwrap();
            path
        });
        let locked = store.begin(&header()).unwrap();
        locked.file.set_len(0).unwrap();
        assert!(store.orphans().is_empty());
        store.prune(Duration::from_secs(3600));
        assert!(wrecks.iter().all(|path| path.exists()));
        store.prune(Duration::ZERO);
        assert!(!wrecks.iter().any(|path| path.exists()) && written.path.exists() && locked.path.exists());
    }
}
