//! The walk over the tree, with a stack of its own.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags};

use super::ids::IdMap;
use super::{CopyError, CopyReport, Result, attributes, file};

/// A directory that is being copied.
struct Level {
    source: OwnedFd,
    target: OwnedFd,
    /// Relative to the top, empty for the top.
    path: Vec<u8>,
    entries: Vec<CString>,
    stat: Statx,
}

pub(super) struct Walk<'a> {
    ids: &'a IdMap,
    top: BorrowedFd<'a>,
    mount: u64,
    stack: Vec<Level>,
    /// Files with several names: (device, inode) to the path of the first copy.
    links: HashMap<(u32, u32, u64), Vec<u8>>,
    report: CopyReport,
}

pub(super) fn failed<E: Into<std::io::Error>>(
    action: &'static str,
    path: &[u8],
) -> impl FnOnce(E) -> CopyError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| CopyError { action, path, source: error.into() }
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: BorrowedFd<'_>, target: BorrowedFd<'a>, ids: &'a IdMap) -> Result<Self> {
        let stat = status(source, c"", b"")?;
        let top = open_level(source, target, c".", Vec::new(), stat)?;
        Ok(Self {
            ids,
            top: target,
            mount: stat.stx_mnt_id,
            stack: vec![top],
            links: HashMap::new(),
            report: CopyReport::default(),
        })
    }

    pub(super) fn run(mut self) -> Result<CopyReport> {
        while let Some(mut level) = self.stack.pop() {
            let Some(name) = level.entries.pop() else {
                // Last, because every new entry changes the directory's times.
                attributes::copy_to_fd(&level.source, &level.target, &level.stat, self.ids)
                    .map_err(failed("set the attributes of", &level.path))?;
                continue;
            };
            let path = join(&level.path, &name);
            let stat = status(&level.source, &name, &path)?;
            let directory = self.copy_entry(&level, &name, &path, &stat)?;
            let (source, target) = (level.source.as_fd(), level.target.as_fd());
            let child = if directory { Some(open_level(source, target, &name, path, stat)?) } else { None };
            self.stack.push(level);
            self.stack.extend(child);
        }
        Ok(self.report)
    }

    /// Copies one entry; true if it is a directory to go into.
    fn copy_entry(&mut self, level: &Level, name: &CStr, path: &[u8], stat: &Statx) -> Result<bool> {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if stat.stx_mnt_id != self.mount || kind == FileType::Socket || is_whiteout(kind, stat) {
            self.report.skipped += 1;
            return Ok(false);
        }
        if kind != FileType::Directory && self.is_linked(level, name, path, stat)? {
            return Ok(false);
        }
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(&level.target, name, Mode::RWXU).map_err(failed("make", path))?;
                self.report.directories += 1;
                return Ok(true);
            }
            FileType::RegularFile => {
                let copied = file::copy(level.source.as_fd(), level.target.as_fd(), name, stat, self.ids);
                self.report.bytes += copied.map_err(failed("copy", path))?;
                self.report.files += 1;
                return Ok(false);
            }
            FileType::Symlink => self.copy_symlink(level, name).map_err(failed("copy", path))?,
            _ => self.make_special(level, name, kind, stat).map_err(failed("make", path))?,
        }
        attributes::copy_by_name(&level.source, &level.target, name, stat, self.ids)
            .map_err(failed("set the attributes of", path))?;
        Ok(false)
    }

    /// Links to the first copy of a file that has several names; false if this is the first.
    fn is_linked(&mut self, level: &Level, name: &CStr, path: &[u8], stat: &Statx) -> Result<bool> {
        if stat.stx_nlink < 2 {
            return Ok(false);
        }
        let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, path.to_vec());
            return Ok(false);
        };
        rustix::fs::linkat(self.top, first.as_slice(), &level.target, name, AtFlags::empty())
            .map_err(failed("link", path))?;
        self.report.hard_links += 1;
        Ok(true)
    }

    fn copy_symlink(&mut self, level: &Level, name: &CStr) -> std::io::Result<()> {
        let target = rustix::fs::readlinkat(&level.source, name, Vec::new())?;
        rustix::fs::symlinkat(target, &level.target, name)?;
        self.report.symlinks += 1;
        Ok(())
    }

    fn make_special(
        &mut self,
        level: &Level,
        name: &CStr,
        kind: FileType,
        stat: &Statx,
    ) -> std::io::Result<()> {
        let device = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
        rustix::fs::mknodat(&level.target, name, kind, Mode::RUSR, device)?;
        self.report.special += 1;
        Ok(())
    }
}

/// overlayfs marks a deleted file with character device 0/0 (Documentation/filesystems/overlayfs.rst).
fn is_whiteout(kind: FileType, stat: &Statx) -> bool {
    kind == FileType::CharacterDevice && stat.stx_rdev_major == 0 && stat.stx_rdev_minor == 0
}

/// Opens a directory on both sides, by its name in their parents, and reads its entries.
fn open_level(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CStr,
    path: Vec<u8>,
    stat: Statx,
) -> Result<Level> {
    const FLAGS: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let source = rustix::fs::openat(source, name, FLAGS, Mode::empty()).map_err(failed("open", &path))?;
    let target =
        rustix::fs::openat(target, name, FLAGS, Mode::empty()).map_err(failed("open the copy of", &path))?;
    let entries = list(&source).map_err(failed("list", &path))?;
    Ok(Level { source, target, path, entries, stat })
}

fn join(directory: &[u8], name: &CStr) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    path
}

fn list(directory: &OwnedFd) -> std::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn status(directory: impl AsFd, name: &CStr, path: &[u8]) -> Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    rustix::fs::statx(directory, name, flags, mask).map_err(failed("examine", path))
}
