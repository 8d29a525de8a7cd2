//! Unpacking what a Spark sent. Its user wrote it, so it is hostile: nothing is written outside of the target, and no
//! link that came with it is followed.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

/// The bits of a mode that are taken over: not set-user-id and its like.
const MODE: u32 = 0o777;

/// Where to unpack to.
#[derive(Debug)]
pub struct Target {
    /// Directory that nothing leaves.
    pub directory: PathBuf,
    /// What the topmost entry is called in it; when empty, what is in the topmost directory comes into `directory`.
    pub name: Option<String>,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, directories and links.
    pub entries: usize,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Why unpacking failed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream.
    #[error("what the Spark sent can't be read: {0}")]
    Stream(#[source] io::Error),
    /// An entry that would be written somewhere else.
    #[error("refused {0:?}, which the Spark sent: it leads out of the directory that is copied into")]
    Escape(PathBuf),
    /// A file where a directory should be, or the other way round.
    #[error("{path}: {why}")]
    InTheWay {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A file can't be written.
    #[error("{path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether the first entry of a stream is a directory; `None` when there is no entry.
pub fn first_is_directory(stream: impl Read) -> Option<bool> {
    let mut archive = Archive::new(stream);
    let entry = archive.entries().ok()?.next()?.ok()?;
    Some(entry.header().entry_type().is_dir())
}

/// Unpacks a stream whose entries are one file or one directory with everything in it.
pub fn unpack(stream: impl Read, target: &Target) -> Result<Report, UnpackError> {
    fs::create_dir_all(&target.directory).map_err(|source| write_error(&target.directory, source))?;
    let mut unpacking = Unpacking { target, top: None, links: Vec::new(), report: Report::default() };
    let mut archive = Archive::new(stream);
    for entry in archive.entries().map_err(UnpackError::Stream)? {
        unpacking.entry(entry.map_err(UnpackError::Stream)?)?;
    }
    unpacking.make_links()?;
    Ok(unpacking.report)
}

struct Unpacking<'a> {
    target: &'a Target,
    /// First component of all names.
    top: Option<PathBuf>,
    /// Symbolic links to make at the end, when nothing is written any more that they could divert.
    links: Vec<(PathBuf, PathBuf)>,
    report: Report,
}

impl Unpacking<'_> {
    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let sent = entry.path().map_err(UnpackError::Stream)?.into_owned();
        let place = self.place(&sent)?;
        match kind {
            EntryType::Directory => self.directory(&place, entry.header().mode().unwrap_or(0o755))?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&place, &mut entry)?
            }
            EntryType::Symlink => return self.symlink(place, &entry),
            EntryType::Link => self.hard_link(&place, &entry)?,
            _ => {
                self.report
                    .left_out
                    .push(format!("{} is left out: it is a device or a FIFO", sent.display()));
                return Ok(());
            }
        }
        self.report.entries += 1;
        Ok(())
    }

    /// The path relative to the target that an entry's name stands for.
    fn place(&mut self, sent: &Path) -> Result<PathBuf, UnpackError> {
        let clean = normal(sent).ok_or_else(|| UnpackError::Escape(sent.into()))?;
        let first = clean.iter().next().map(PathBuf::from).unwrap_or_default();
        let top = self.top.get_or_insert(first);
        let rest = clean.strip_prefix(&*top).map_err(|_| UnpackError::Escape(sent.into()))?;
        Ok(match &self.target.name {
            // Joining with an empty path would add a slash.
            Some(name) if rest.as_os_str().is_empty() => PathBuf::from(name),
            Some(name) => Path::new(name).join(rest),
            None => rest.into(),
        })
    }

    fn directory(&self, place: &Path, mode: u32) -> Result<(), UnpackError> {
        if place.as_os_str().is_empty() {
            return Ok(());
        }
        self.make_parent(place)?;
        // Its owner can always go on writing into it.
        make_directory(&self.target.directory.join(place), mode & MODE | 0o700)
    }

    fn file(&self, place: &Path, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let path = self.make_room(place)?;
        let mode = entry.header().mode().unwrap_or(0o644) & MODE;
        // A new file only: an existing name, a link above all, would be followed.
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode | 0o200).open(&path);
        let mut file = opened.map_err(|source| write_error(&path, source))?;
        io::copy(entry, &mut file).map_err(|source| write_error(&path, source))?;
        set_time(&file, entry.header().mtime().unwrap_or_default());
        Ok(())
    }

    fn symlink(&mut self, place: PathBuf, entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let target = entry.link_name().map_err(UnpackError::Stream)?.unwrap_or_default().into_owned();
        let base = self.target.name.as_deref().map(Path::new).unwrap_or(Path::new(""));
        if stays_inside(&place, &target, base) {
            self.links.push((place, target));
        } else {
            let text = format!(
                "{} is left out: it links to {}, outside of the copy",
                place.display(),
                target.display()
            );
            self.report.left_out.push(text);
        }
        Ok(())
    }

    fn hard_link(&mut self, place: &Path, entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let sent = entry.link_name().map_err(UnpackError::Stream)?.unwrap_or_default().into_owned();
        let original = self.place(&sent)?;
        self.make_parent(&original)?;
        let original = self.target.directory.join(original);
        let is_file = fs::symlink_metadata(&original).is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err(UnpackError::InTheWay {
                path: original,
                why: "is linked to, and is no file of this copy",
            });
        }
        let path = self.make_room(place)?;
        fs::hard_link(&original, &path).map_err(|source| write_error(&path, source))
    }

    fn make_links(&mut self) -> Result<(), UnpackError> {
        for (place, target) in std::mem::take(&mut self.links) {
            let path = self.make_room(&place)?;
            symlink(&target, &path).map_err(|source| write_error(&path, source))?;
            self.report.entries += 1;
        }
        Ok(())
    }

    /// Makes the parents of a place and removes the file that is there.
    fn make_room(&self, place: &Path) -> Result<PathBuf, UnpackError> {
        let path = self.target.directory.join(place);
        if place.as_os_str().is_empty() {
            return Err(UnpackError::InTheWay { path, why: "is a directory, and what is copied is a file" });
        }
        self.make_parent(place)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                Err(UnpackError::InTheWay { path, why: "is a directory, and what is copied over it is not" })
            }
            Ok(_) => fs::remove_file(&path).map_err(|source| write_error(&path, source)).map(|()| path),
            Err(_) => Ok(path),
        }
    }

    /// Makes the parents of a place below the target; each must be a directory and no link to one.
    fn make_parent(&self, place: &Path) -> Result<(), UnpackError> {
        let mut path = self.target.directory.clone();
        for component in place.parent().into_iter().flat_map(Path::components) {
            path.push(component);
            make_directory(&path, 0o755)?;
        }
        Ok(())
    }
}

/// Makes a directory, or sees that there is one and no link.
fn make_directory(path: &Path, mode: u32) -> Result<(), UnpackError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(UnpackError::InTheWay { path: path.into(), why: "is in the way: it is no directory" }),
        Err(_) => DirBuilder::new().mode(mode).create(path).map_err(|source| write_error(path, source)),
    }
}

/// The path without `.`; `None` when it has `..` or begins at the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Whether a symbolic link at `place` leads to something in `base`, by its words. After a name no `..` is admitted,
/// because the name may be another link.
fn stays_inside(place: &Path, target: &Path, base: &Path) -> bool {
    let mut at: Vec<&std::ffi::OsStr> =
        place.parent().map(|parent| parent.iter().collect()).unwrap_or_default();
    let mut is_named = false;
    for component in target.components() {
        match component {
            Component::Normal(name) => {
                is_named = true;
                at.push(name);
            }
            Component::CurDir => {}
            Component::ParentDir if is_named || at.pop().is_none() => return false,
            Component::ParentDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    at.starts_with(&base.iter().collect::<Vec<_>>())
}

fn set_time(file: &File, mtime: u64) {
    if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(mtime)) {
        // A file system that can't keep it is no reason to fail.
        let _ = file.set_times(FileTimes::new().set_modified(time));
    }
}

fn write_error(path: &Path, source: io::Error) -> UnpackError {
    UnpackError::Write { path: path.into(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "unpack_tests.rs"]
mod tests;
