//! Paths below a root that a tenant wrote.
//!
//! A tenant can put a symbolic link, a FIFO or a device anywhere in its root. Everything below such a root is opened
//! through [`HostileRoot`], which uses openat2(2) with `RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS`: no link is followed, whatever it points at, and no path leads out of the root.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What was found where something else was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A symbolic link.
    SymbolicLink,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO, a socket or a device.
    Special,
}

impl Found {
    fn of(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::Symlink => Found::SymbolicLink,
            FileType::RegularFile => Found::File,
            FileType::Directory => Found::Directory,
            _ => Found::Special,
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Found::SymbolicLink => "a symbolic link",
            Found::File => "a file",
            Found::Directory => "a directory",
            Found::Special => "a FIFO, a socket or a device",
        })
    }
}

/// Why a path below a hostile root could not be used. Paths are relative to the root.
#[derive(Debug, thiserror::Error)]
pub enum SafePathError {
    /// A directory is needed here.
    #[error("/{path} in the root is {found}; make it a directory")]
    NotADirectory {
        /// The first component that is in the way.
        path: String,
        /// What it is.
        found: Found,
    },
    /// A regular file is needed here.
    #[error("/{path} in the root is {found}; make it a regular file")]
    NotAFile {
        /// The path.
        path: String,
        /// What it is.
        found: Found,
    },
    /// The file is larger than the caller accepts.
    #[error("/{path} in the root is larger than {max} bytes")]
    TooLarge {
        /// The path.
        path: String,
        /// The limit in bytes.
        max: u64,
    },
    /// The path itself is not a plain relative one.
    #[error("{path:?} is not a plain relative path (no leading /, no empty component, no . or ..)")]
    NotPlain {
        /// The path.
        path: String,
    },
    /// A system call failed.
    #[error("cannot {action} /{path} in the root: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl SafePathError {
    fn system(action: &'static str, path: &str, error: impl Into<std::io::Error>) -> Self {
        Self::System { action, path: path.to_owned(), source: error.into() }
    }
}

type Result<T, E = SafePathError> = std::result::Result<T, E>;

/// A directory whose contents a tenant wrote. All paths are relative to it, for example `etc/hosts`.
#[derive(Debug, Clone, Copy)]
pub struct HostileRoot<'fd> {
    root: BorrowedFd<'fd>,
    resolve: ResolveFlags,
}

impl<'fd> HostileRoot<'fd> {
    /// A root below which nothing is mounted: mount points are refused too.
    pub fn without_mounts(root: BorrowedFd<'fd>) -> Self {
        let root = Self::with_mounts(root);
        Self { resolve: root.resolve | ResolveFlags::NO_XDEV, ..root }
    }

    /// A root as a running pod has it, with mounts such as `/proc` in it.
    pub fn with_mounts(root: BorrowedFd<'fd>) -> Self {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Self { root, resolve }
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat2(self.root, path, flags, Mode::empty(), self.resolve)
    }

    /// Opens a directory as a place (`O_PATH`); `None` if there is nothing.
    ///
    /// # Errors
    /// [`SafePathError::NotADirectory`] names the component that is something else.
    pub fn open_dir(&self, path: &str) -> Result<Option<OwnedFd>> {
        check_plain(path)?;
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.diagnose(path, error)),
        }
    }

    /// Opens a directory as a place, and makes what is missing of it as root with mode 0755.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir), and `EDQUOT` or `ENOSPC` where something had to be made.
    pub fn ensure_dir(&self, path: &str) -> Result<OwnedFd> {
        if let Some(directory) = self.open_dir(path)? {
            return Ok(directory);
        }
        let mut at = None;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let (prefix, name) = (&path[..end], path[..end].rsplit('/').next().unwrap_or_default());
            let parent = at.as_ref().map_or(self.root, AsFd::as_fd);
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(SafePathError::system("make the directory", prefix, error)),
            }
            let made = self.open_dir(prefix)?;
            at = Some(made.ok_or_else(|| SafePathError::system("open", prefix, Errno::NOENT))?);
        }
        at.ok_or_else(|| SafePathError::NotPlain { path: path.to_owned() })
    }

    /// Writes a file as root, under another name first, and renames it into place. A symbolic link, FIFO or other
    /// special file at that place is replaced, never followed or opened. Nothing is written if the file is there with
    /// these contents.
    ///
    /// # Errors
    /// [`SafePathError::NotAFile`] if a directory is there; `EDQUOT` or `ENOSPC` if the disk is full.
    pub fn replace_file(&self, path: &str, contents: &[u8], mode: u32) -> Result<()> {
        check_plain(path)?;
        if self.read_file(path, contents.len() as u64).is_ok_and(|old| old.as_deref() == Some(contents)) {
            return Ok(());
        }
        self.replace(path, "write", |parent| write_temporary(parent, contents, mode))
    }

    /// Puts a symbolic link there, under another name first. Nothing is written if it is there already. Whatever else is
    /// at that place is replaced, never followed or opened.
    ///
    /// # Errors
    /// As [`replace_file`](Self::replace_file).
    pub fn replace_with_link(&self, path: &str, target: &str) -> Result<()> {
        check_plain(path)?;
        if self.reads_link(path).is_some_and(|found| found == target.as_bytes()) {
            return Ok(());
        }
        self.replace(path, "make the link", |parent| {
            let name = temporary_name();
            rustix::fs::symlinkat(target, parent, &name)?;
            Ok(name)
        })
    }

    fn reads_link(&self, path: &str) -> Option<Vec<u8>> {
        let link = self.open(path, OFlags::PATH).ok()?;
        Some(rustix::fs::readlinkat(link, c"", Vec::new()).ok()?.into_bytes())
    }

    /// Renames what `make` made in the parent directory into place.
    fn replace(
        &self,
        path: &str,
        action: &'static str,
        make: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<String>,
    ) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let made = if parent.is_empty() { None } else { Some(self.ensure_dir(parent)?) };
        let parent = made.as_ref().map_or(self.root, AsFd::as_fd);
        let temporary = make(parent).map_err(|error| SafePathError::system(action, path, error))?;
        rustix::fs::renameat(parent, &temporary, parent, name).map_err(|error| {
            // The error of the rename is the one to report.
            let _ = rustix::fs::unlinkat(parent, &temporary, AtFlags::empty());
            match error {
                Errno::ISDIR => SafePathError::NotAFile { path: path.to_owned(), found: Found::Directory },
                error => SafePathError::system("replace", path, error),
            }
        })
    }

    /// Reads a regular file of at most `max` bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`SafePathError::NotAFile`] for anything but a regular file (a FIFO is not waited for),
    /// [`SafePathError::NotADirectory`] for a link on the way.
    pub fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        check_plain(path)?;
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.diagnose_file(path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| SafePathError::system("read", path, error))?;
        let found = Found::of(stat.st_mode);
        if found != Found::File {
            return Err(SafePathError::NotAFile { path: path.to_owned(), found });
        }
        let mut contents = Vec::new();
        let read = std::fs::File::from(file).take(max + 1).read_to_end(&mut contents);
        read.map_err(|error| SafePathError::system("read", path, error))?;
        if contents.len() as u64 > max {
            return Err(SafePathError::TooLarge { path: path.to_owned(), max });
        }
        Ok(Some(contents))
    }

    /// Finds the component that is no directory, to say so instead of `ELOOP` or `ENOTDIR`.
    fn diagnose(&self, path: &str, error: Errno) -> SafePathError {
        self.first_in_the_way(path)
            .map(|(path, found)| SafePathError::NotADirectory { path, found })
            .unwrap_or_else(|| SafePathError::system("open", path, error))
    }

    fn diagnose_file(&self, path: &str, error: Errno) -> SafePathError {
        match self.first_in_the_way(path) {
            Some((at, found)) if at == path => SafePathError::NotAFile { path: at, found },
            Some((path, found)) => SafePathError::NotADirectory { path, found },
            None => SafePathError::system("open", path, error),
        }
    }

    fn first_in_the_way(&self, path: &str) -> Option<(String, Found)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).find_map(|prefix| {
            let place = self.open(prefix, OFlags::PATH).ok()?;
            let found = Found::of(rustix::fs::fstat(place).ok()?.st_mode);
            (found != Found::Directory).then(|| (prefix.to_owned(), found))
        })
    }
}

fn check_plain(path: &str) -> Result<()> {
    let plain = |part| !matches!(part, "" | "." | "..");
    if path.split('/').all(plain) { Ok(()) } else { Err(SafePathError::NotPlain { path: path.to_owned() }) }
}

/// A name that nobody chose.
fn temporary_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
    format!(".sparks-{nanos:x}-{count:x}")
}

/// Writes a new file and returns its name.
fn write_temporary(parent: BorrowedFd<'_>, contents: &[u8], mode: u32) -> std::io::Result<String> {
    let name = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, &name, flags, Mode::from_raw_mode(0o600))?;
    let write = || -> std::io::Result<()> {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        std::fs::File::from(file).write_all(contents)
    };
    write().inspect_err(|_| {
        // The error of the write is the one to report.
        let _ = rustix::fs::unlinkat(parent, &name, AtFlags::empty());
    })?;
    Ok(name)
}

#[cfg(test)]
mod tests;
