//! Writing a tar stream.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{PROC_SUPER_MAGIC, statfs};
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, Outcome, note};

/// Magic of sysfs (linux/magic.h), which rustix doesn't name.
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Longest link target of a plain header.
const MAX_PLAIN_LINK: usize = 100;

/// Writes `paths` to `out`, each under its own last name. A symbolic link among `paths` is followed, as scp does; one
/// inside a directory is kept.
///
/// # Errors
/// [`ArchiveError`] when one of `paths` can't be read or the stream breaks. What can't be archived inside a directory
/// is noted on standard error and makes the outcome incomplete.
pub fn write(paths: &[PathBuf], out: impl Write) -> Result<Outcome, ArchiveError> {
    let mut walk = Walk { tar: Builder::new(out), linked: HashMap::new(), outcome: Outcome::Complete };
    for path in paths {
        let (source, name) =
            resolve(path).map_err(|source| ArchiveError::Read { path: path.clone(), source })?;
        walk.tree(source, name)?;
    }
    walk.tar.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveError::Stream)?;
    Ok(walk.outcome)
}

/// The file that a path names, and the name that it gets in the archive.
fn resolve(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let source = fs::canonicalize(path)?;
    let name = path.file_name().or(source.file_name()).unwrap_or(OsStr::new("."));
    Ok((source.clone(), name.into()))
}

/// Why one entry failed.
enum EntryError {
    /// The file; the walk goes on.
    File(io::Error),
    /// The stream; nothing can follow.
    Stream(io::Error),
}

/// The archive being written.
struct Walk<W: Write> {
    tar: Builder<W>,
    /// Names of files that have further links, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    outcome: Outcome,
}

impl<W: Write> Walk<W> {
    /// Archives a file or a directory with everything in it, in the order of names.
    fn tree(&mut self, source: PathBuf, name: PathBuf) -> Result<(), ArchiveError> {
        let mut todo = vec![(source, name, None)];
        while let Some((source, name, device)) = todo.pop() {
            let children = match self.entry(&source, &name, device) {
                Ok(children) => children,
                Err(EntryError::Stream(error)) => return Err(ArchiveError::Stream(error)),
                Err(EntryError::File(error)) => {
                    self.leave_out(&source, error);
                    continue;
                }
            };
            if let Some((device, names)) = children {
                todo.extend(
                    names
                        .into_iter()
                        .rev()
                        .map(|child| (source.join(&child), name.join(&child), Some(device))),
                );
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &Path, why: impl std::fmt::Display) {
        note(path, why);
        self.outcome = Outcome::Incomplete;
    }

    /// Archives one entry. Of a directory it returns the device and the names in it.
    fn entry(
        &mut self,
        source: &Path,
        name: &Path,
        parent_device: Option<u64>,
    ) -> Result<Option<(u64, Vec<OsString>)>, EntryError> {
        let metadata = fs::symlink_metadata(source).map_err(EntryError::File)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            if parent_device.is_some_and(|device| device != metadata.dev()) && is_kernels_own(source) {
                return Ok(None);
            }
            let names = names(source).map_err(EntryError::File)?;
            self.append(&metadata, name, EntryType::Directory, io::empty())?;
            return Ok(Some((metadata.dev(), names)));
        }
        if kind.is_file() {
            self.file(source, name)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(source).map_err(EntryError::File)?;
            self.link(&metadata, name, EntryType::Symlink, &target)?;
        } else if kind.is_socket() {
            // Of no use without the process behind it, so nothing is missing.
            note(source, "left out, because it is a socket");
        } else {
            self.leave_out(source, "left out, because it is a FIFO or a device");
        }
        Ok(None)
    }

    fn file(&mut self, source: &Path, name: &Path) -> Result<(), EntryError> {
        let mut file = open(source).map_err(EntryError::File)?;
        let metadata = file.metadata().map_err(EntryError::File)?;
        if metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&key).cloned() {
                return self.link(&metadata, name, EntryType::Link, &first);
            }
            self.linked.insert(key, name.into());
        }
        // The header has announced the size by the time that the file is read: one that shrinks meanwhile, or whose
        // disk fails, is filled with zeros, and one that grows is cut.
        let mut failed = None;
        let content = Lenient { file: &mut file, failed: &mut failed };
        self.append(&metadata, name, EntryType::Regular, content.chain(io::repeat(0)).take(metadata.len()))?;
        if let Some(error) = failed {
            self.leave_out(source, error);
        } else if file.stream_position().is_ok_and(|end| end < metadata.len()) {
            self.leave_out(source, "shrank while it was read; its end was filled with zeros");
        }
        Ok(())
    }

    fn append(
        &mut self,
        metadata: &Metadata,
        name: &Path,
        kind: EntryType,
        content: impl Read,
    ) -> Result<(), EntryError> {
        let mut header = header(metadata, kind);
        self.tar.append_data(&mut header, name, content).map_err(EntryError::Stream)
    }

    fn link(
        &mut self,
        metadata: &Metadata,
        name: &Path,
        kind: EntryType,
        target: &Path,
    ) -> Result<(), EntryError> {
        let mut header = header(metadata, kind);
        header.set_size(0);
        let bytes = target.as_os_str().as_bytes();
        let written = if bytes.len() < MAX_PLAIN_LINK {
            // Literally: the tar crate would tidy the target up.
            header
                .set_link_name_literal(bytes)
                .and_then(|()| self.tar.append_data(&mut header, name, io::empty()))
        } else {
            self.tar.append_link(&mut header, name, target)
        };
        written.map_err(EntryError::Stream)
    }
}

fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    // Without the bits of the kind, which have a field of their own.
    header.set_mode(metadata.mode() & 0o7777);
    header.set_entry_type(kind);
    header.set_size(if kind == EntryType::Regular { metadata.len() } else { 0 });
    header
}

/// Opens a file that was a regular one a moment ago, without waiting should it have become a FIFO.
fn open(source: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(source)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file any more"))
    }
}

fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Whether a mount shows the kernel instead of files: copying a whole root shall not try to.
fn is_kernels_own(directory: &Path) -> bool {
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    statfs(directory).is_ok_and(|fs| [PROC_SUPER_MAGIC as i64, SYSFS_MAGIC].contains(&(fs.f_type as i64)))
}

/// A file that ends where it can't be read.
struct Lenient<'a> {
    file: &'a mut File,
    failed: &'a mut Option<io::Error>,
}

impl Read for Lenient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                *self.failed = Some(error);
                Ok(0)
            }
            other => other,
        }
    }
}
