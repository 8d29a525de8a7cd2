//! Extracting a tar stream. The archive may be hostile: every parent is opened beneath the target directory by the
//! kernel (`openat2`, `RESOLVE_BENEATH`), and the last name is made anew, never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::{ArchiveError, Outcome, note};

/// Mode of directories that the archive doesn't name, and of others until it is done.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// So often a lookup is tried again that a concurrent rename made the kernel give up.
const RACES: usize = 8;

/// What `tar-in` is told.
#[derive(Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Directory to extract into.
    pub into: PathBuf,
    /// Replaces the first component of every name.
    pub rename: Option<OsString>,
    /// Whether root gives entries to the archive's owners.
    pub same_owner: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self { into: ".".into(), rename: None, same_owner: true }
    }
}

/// Extracts a tar stream.
///
/// Existing files are replaced, existing directories are kept as they are. Only root gives entries to their owners;
/// whoever doesn't keeps no set-user-id and set-group-id bits either.
///
/// # Errors
/// [`ArchiveError`] at the first entry that fails or leads out of the directory; nothing after it is extracted.
pub fn extract(options: &ExtractOptions, input: impl Read) -> Result<Outcome, ArchiveError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&options.into, flags, Mode::empty())
        .map_err(|error| ArchiveError::Into { path: options.into.clone(), source: error.into() })?;
    let same_owner = options.same_owner && rustix::process::geteuid().is_root();
    let mut target = Target { root, same_owner, directories: Vec::new(), outcome: Outcome::Complete };
    let mut archive = Archive::new(input);
    for entry in archive.entries().map_err(ArchiveError::Stream)? {
        target.entry(&mut entry.map_err(ArchiveError::Stream)?, options.rename.as_deref())?;
    }
    target.finish_directories()?;
    Ok(target.outcome)
}

/// Mode, owner and time of an entry.
#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    mtime: i64,
    uid: u64,
    gid: u64,
}

/// The directory being extracted into.
struct Target {
    root: OwnedFd,
    same_owner: bool,
    /// Directories that were made; they get their attributes last, because making entries changes their time and a
    /// mode may forbid to.
    directories: Vec<(PathBuf, Attributes)>,
    outcome: Outcome,
}

impl Target {
    fn entry(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        rename: Option<&OsStr>,
    ) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inside(&entry.path().map_err(ArchiveError::Stream)?, rename)?;
        let attributes = attributes(entry).map_err(ArchiveError::Stream)?;
        // The directory itself, which exists.
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent = self.parent(&path)?;
        let failed = |source: io::Error| ArchiveError::Extract { path: path.clone(), source };
        match kind {
            EntryType::Directory => match mkdirat(&parent, name, DIRECTORY_MODE) {
                Ok(()) => self.directories.push((path, attributes)),
                // Only a real one: a link to a directory elsewhere must not pass for one.
                Err(Errno::EXIST) => drop(self.open_directory(&path, OFlags::PATH)?),
                Err(error) => return Err(failed(error.into())),
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                make_room(&parent, name).map_err(failed)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
                let mut file = File::from(file);
                io::copy(entry, &mut file).map_err(failed)?;
                self.set(&file, &path, attributes)?;
            }
            EntryType::Symlink => {
                let link = link_target(entry).map_err(failed)?;
                make_room(&parent, name).map_err(failed)?;
                symlinkat(&link, &parent, name).map_err(|error| failed(error.into()))?;
                self.set_link(&parent, name, &path, attributes)?;
            }
            EntryType::Link => {
                let first = inside(&link_target(entry).map_err(failed)?, rename)?;
                let first_name = first.file_name().ok_or_else(|| ArchiveError::Escape(first.clone()))?;
                if first != path {
                    let first_parent = self.parent(&first)?;
                    make_room(&parent, name).map_err(failed)?;
                    linkat(&first_parent, first_name, &parent, name, AtFlags::empty())
                        .map_err(|error| failed(error.into()))?;
                }
            }
            _ => {
                note(&path, "left out, because it is no file, directory or link");
                self.outcome = Outcome::Incomplete;
            }
        }
        Ok(())
    }

    /// The directory of an entry, made if it doesn't exist.
    fn parent(&self, path: &Path) -> Result<OwnedFd, ArchiveError> {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return self.open_directory(Path::new("."), OFlags::PATH);
        };
        match self.beneath(parent, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|error| refusal(parent, error)),
        }
        let above = self.parent(parent)?;
        let name = parent.file_name().ok_or_else(|| ArchiveError::Escape(parent.into()))?;
        match mkdirat(&above, name, DIRECTORY_MODE) {
            // A dangling link has the name: opening it says so.
            Ok(()) | Err(Errno::EXIST) => self.open_directory(parent, OFlags::PATH),
            Err(error) => Err(ArchiveError::Extract { path: parent.into(), source: error.into() }),
        }
    }

    fn open_directory(&self, path: &Path, access: OFlags) -> Result<OwnedFd, ArchiveError> {
        self.beneath(path, access).map_err(|error| refusal(path, error))
    }

    fn beneath(&self, path: &Path, access: OFlags) -> Result<OwnedFd, Errno> {
        let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Gives the directories that were made their attributes, the deepest first.
    fn finish_directories(&mut self) -> Result<(), ArchiveError> {
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.open_directory(&path, OFlags::RDONLY)?;
            self.set(&directory, &path, attributes)?;
        }
        Ok(())
    }

    /// Sets owner, mode and time. In this order: a change of owner clears the set-user-id bit.
    fn set(&self, file: impl AsFd, path: &Path, attributes: Attributes) -> Result<(), ArchiveError> {
        let file = file.as_fd();
        if self.same_owner {
            let (uid, gid) = attributes.owner(path)?;
            fchown(file, uid, gid).map_err(|error| attributes.owner_error(path, error))?;
        }
        let bits = if self.same_owner { 0o7777 } else { 0o1777 };
        fchmod(file, Mode::from_raw_mode(attributes.mode & bits))
            .and_then(|()| futimens(file, &attributes.times()))
            .map_err(|error| ArchiveError::Extract { path: path.into(), source: error.into() })
    }

    /// Sets what a symbolic link has.
    fn set_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        attributes: Attributes,
    ) -> Result<(), ArchiveError> {
        if self.same_owner {
            let (uid, gid) = attributes.owner(path)?;
            chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| attributes.owner_error(path, error))?;
        }
        utimensat(parent, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| ArchiveError::Extract { path: path.into(), source: error.into() })
    }
}

impl Attributes {
    fn times(self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }

    fn owner(self, path: &Path) -> Result<(Option<Uid>, Option<Gid>), ArchiveError> {
        // u32::MAX means "unchanged" to the kernel.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(self.uid), id(self.gid)) {
            (Some(uid), Some(gid)) => Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))),
            _ => Err(self.owner_error(path, Errno::INVAL)),
        }
    }

    fn owner_error(self, path: &Path, error: Errno) -> ArchiveError {
        ArchiveError::Owner { path: path.into(), uid: self.uid, gid: self.gid, source: error.into() }
    }
}

fn attributes(entry: &Entry<'_, impl Read>) -> io::Result<Attributes> {
    let header = entry.header();
    Ok(Attributes {
        mode: header.mode()?,
        mtime: i64::try_from(header.mtime()?).unwrap_or(0),
        uid: header.uid()?,
        gid: header.gid()?,
    })
}

fn link_target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name()?.ok_or_else(|| io::Error::other("the link has no target"))?;
    Ok(target.into_owned())
}

/// The relative path of a name in the archive, renamed. A leading slash is dropped, as every tar does; `..` has no
/// place in a name.
fn inside(name: &Path, rename: Option<&OsStr>) -> Result<PathBuf, ArchiveError> {
    let mut path = PathBuf::new();
    let mut rename = rename;
    for component in name.components() {
        match component {
            Component::ParentDir => return Err(ArchiveError::Escape(name.into())),
            Component::RootDir | Component::Prefix(_) => {}
            Component::CurDir => path.extend(rename.take()),
            Component::Normal(part) => path.push(rename.take().unwrap_or(part)),
        }
    }
    Ok(path)
}

/// Removes what has the name, so that it can be made anew; never a directory.
fn make_room(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the kernel's refusal to open a directory means; EXDEV is `RESOLVE_BENEATH`'s.
fn refusal(path: &Path, error: Errno) -> ArchiveError {
    match error {
        Errno::XDEV => ArchiveError::Escape(path.into()),
        error => ArchiveError::Extract { path: path.into(), source: error.into() },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn renamed(name: &str, to: &str) -> PathBuf {
        inside(Path::new(name), Some(OsStr::new(to))).unwrap()
    }

    #[test]
    fn a_rename_replaces_the_first_component() {
        assert_eq!(renamed("a", "b"), Path::new("b"));
        assert_eq!(renamed("a/x/a", "b"), Path::new("b/x/a"));
        assert_eq!(renamed("/a/x", "b"), Path::new("b/x"));
        assert_eq!(renamed("./x", "b"), Path::new("b/x"));
        assert_eq!(renamed(".", "b"), Path::new("b"));
    }

    #[test]
    fn a_name_with_dot_dot_is_refused_wherever_it_stands() {
        for name in ["..", "../x", "a/../x", "a/..", "/../x"] {
            assert!(matches!(inside(Path::new(name), None), Err(ArchiveError::Escape(_))), "{name}");
        }
        assert_eq!(inside(Path::new("/a//./b"), None).unwrap(), Path::new("a/b"));
    }
}
