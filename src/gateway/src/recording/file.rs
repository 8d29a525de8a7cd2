//! The file of one recording, from its first line to its last.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde::de::IgnoredAny;
use spark_client::recordings::Trailer;
use tokio::task::spawn_blocking;

use super::{
    RecordError,
    cast::{Encoder, Event, Header},
    hash::Hash,
    limits::Share,
    store::DONE,
};

/// Begins the last line, which a player takes for a comment.
pub(super) const TRAILER: &str = "# sparks ";
/// Longest first or last line of a recording.
const MAX_LINE: u64 = 64 * 1024;

/// A recording that is being made.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    header: Header,
    share: Share,
    /// Bytes of whole lines, and their hash.
    length: u64,
    hash: Hash,
    encoder: Encoder,
    began: Instant,
    exit: Option<String>,
    /// Nothing more is written but the last line.
    is_stopped: bool,
}

/// A recording to which nothing is added but its last line.
#[derive(Debug)]
pub struct Ended {
    file: Arc<File>,
    path: PathBuf,
    /// Where the last line begins.
    length: u64,
    /// Of all before the last line.
    body: Hash,
    /// The hash of the file with its last line, once it has one.
    whole: Option<String>,
    pub(super) header: Header,
    pub(super) trailer: Trailer,
}

impl Recording {
    /// Begins a file.
    pub(super) fn begin(path: PathBuf, header: &Header, share: Share) -> Result<Self, RecordError> {
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        let now = Instant::now();
        let mut recording = Self {
            file,
            path,
            header: header.clone(),
            share,
            length: 0,
            hash: Hash::default(),
            encoder: Encoder::new(now),
            began: now,
            exit: None,
            is_stopped: false,
        };
        // Without its whole header it is none.
        let begun = recording.file.lock().map_err(Into::into).and_then(|()| recording.append(&line));
        begun.inspect_err(|_| drop(fs::remove_file(&recording.path)))?;
        Ok(recording)
    }

    /// Name of the recording.
    pub fn id(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Adds an event. It is with the operating system when this returns. After an error, nothing further is added.
    pub fn event(&mut self, event: &Event<'_>, now: Instant) -> Result<(), RecordError> {
        if let Event::Exit(status) = event {
            self.exit = Some((*status).to_owned());
        }
        if self.is_stopped {
            return Ok(());
        }
        let Some(line) = self.encoder.line(event, now) else { return Ok(()) };
        self.append(line.as_bytes()).inspect_err(|error| self.stop(error, now))
    }

    fn append(&mut self, line: &[u8]) -> Result<(), RecordError> {
        self.share.take(self.length, line.len() as u64)?;
        Ok(self.write(line)?)
    }

    /// Says at its end why it has no more; where a limit is reached, there is room for that.
    fn stop(&mut self, why: &RecordError, now: Instant) {
        self.is_stopped = true;
        let text = format!("the recording ends here: {why}");
        if let Some(line) = self.encoder.line(&Event::Marker(&text), now)
            && let Err(error) = self.write(line.as_bytes())
        {
            tracing::debug!(%error, recording = %self.id(), "a recording ends without a word");
        }
    }

    /// Writes a whole line, or nothing.
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.file.write_all(line).inspect_err(|_| drop(self.file.set_len(self.length)))?;
        self.length += line.len() as u64;
        self.hash.add(line);
        Ok(())
    }

    /// Nothing more comes.
    pub fn into_ended(mut self) -> Result<Ended, RecordError> {
        if let Some(rest) = self.encoder.rest().filter(|_| !self.is_stopped) {
            self.write(rest.as_bytes())?;
        }
        let trailer = Trailer {
            seconds: self.began.elapsed().as_millis() as f64 / 1000.0,
            exit: self.exit,
            previous: String::new(),
        };
        Ok(Ended {
            file: Arc::new(self.file),
            path: self.path,
            length: self.length,
            body: self.hash,
            whole: None,
            header: self.header,
            trailer,
        })
    }
}

impl Ended {
    /// Writes the last line, in place of an earlier one, and gives the hash of the whole.
    pub(super) async fn write_trailer(&mut self, previous: String) -> Result<String, RecordError> {
        self.trailer.previous = previous;
        let line = format!("{TRAILER}{}\n", serde_json::to_string(&self.trailer)?);
        let hash = self.body.ending_with(line.as_bytes());
        let (file, length) = (self.file.clone(), self.length);
        self.whole = None;
        on_disk(move || {
            file.set_len(length)?;
            (&*file).write_all(line.as_bytes())?;
            file.sync_all()
        })
        .await?;
        Ok(self.whole.insert(hash).clone())
    }

    /// Whether it is the one with this hash, its last line included.
    pub(super) fn is(&self, hash: &str) -> bool {
        self.whole.as_deref() == Some(hash)
    }

    /// Name of the recording.
    pub(super) fn id(&self) -> String {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
    }

    /// Takes its final name.
    pub(super) async fn publish(self) -> Result<(), RecordError> {
        // It stays locked until it has it.
        let Self { file, path, .. } = self;
        on_disk(move || {
            fs::rename(&path, path.with_extension(DONE))?;
            drop(file);
            Ok(())
        })
        .await
    }
}

/// Waits for the disk on a thread that may.
async fn on_disk(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), RecordError> {
    Ok(spawn_blocking(work).await.map_err(std::io::Error::from)??)
}

/// Takes over a recording that nobody writes. It reads all of it: call it where that may block.
pub(super) fn adopt(path: PathBuf) -> Result<Option<Ended>, RecordError> {
    let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
        // Another replica was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if file.try_lock().is_err() || !is_at(&file, &path) {
        return Ok(None);
    }
    let header = read_header(&mut file)?;
    let Whole { length, seconds, body, last } = Whole::read(&mut file)?;
    let written = last.as_ref().and_then(|line| serde_json::from_slice(&line[TRAILER.len()..]).ok());
    let whole = last.map(|line| body.ending_with(&line));
    let trailer = written.unwrap_or(Trailer { seconds, exit: Some("lost".into()), previous: String::new() });
    Ok(Some(Ended { file: Arc::new(file), path, length, body, whole, header, trailer }))
}

/// Whether this file still has this name: another replica may have given it its last one between opening and locking.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, named) = (file.metadata().map(inode), fs::metadata(path).map(inode));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

/// What is found in a file.
#[derive(Default)]
struct Whole {
    length: u64,
    seconds: f64,
    body: Hash,
    /// The last line, if it was written.
    last: Option<Vec<u8>>,
}

impl Whole {
    /// Half a line at the end is no part of it.
    fn read(file: &mut File) -> Result<Self, RecordError> {
        file.seek(SeekFrom::Start(0))?;
        let mut whole = Self::default();
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
            if line.starts_with(TRAILER.as_bytes()) {
                whole.last = Some(std::mem::take(&mut line));
                break;
            }
            whole.length += line.len() as u64;
            whole.body.add(&line);
            if let Ok((since, _, _)) = serde_json::from_slice::<(f64, IgnoredAny, IgnoredAny)>(&line) {
                whole.seconds += since;
            }
            line.clear();
        }
        Ok(whole)
    }
}

/// Whether nobody writes this recording, and it has no header to end it by.
pub(super) fn is_wreck(path: &Path) -> bool {
    // A lock needs a file that is open for writing, on NFS.
    let Ok(mut file) = OpenOptions::new().read(true).append(true).open(path) else { return false };
    file.try_lock().is_ok() && matches!(read_header(&mut file), Err(RecordError::Json(_)))
}

pub(super) fn read_header(file: &mut File) -> Result<Header, RecordError> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(Read::take(&mut *file, MAX_LINE)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

pub(super) fn read_trailer(file: &mut File, length: u64) -> Option<Trailer> {
    file.seek(SeekFrom::Start(length.saturating_sub(1024))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let last = text.lines().last()?.strip_prefix(TRAILER)?;
    serde_json::from_str(last).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_replica_has_ended_is_not_where_it_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.partial");
        let file = File::create_new(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::rename(&path, path.with_extension(DONE)).unwrap();
        assert!(!is_at(&file, &path));
        File::create_new(&path).unwrap();
        assert!(!is_at(&file, &path), "another one of that name");
    }
}
