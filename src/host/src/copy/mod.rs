//! Copies an image's tree into a subvolume: owners, modes, times, extended attributes (file capabilities and ACLs
//! among them), hard links, holes, symbolic links, FIFOs and devices.
//!
//! The source may be hostile: every entry is opened by its one name in an open directory, and no link is followed.
//! What is mounted below the source is not copied.

mod attributes;
mod file;
mod ids;
mod walk;

use std::io;
use std::os::fd::AsFd;

pub use ids::IdMap;

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
#[error("copy: cannot {action} /{path}: {source}")]
pub struct CopyError {
    /// What was tried.
    pub action: &'static str,
    /// The entry, relative to the source.
    pub path: String,
    /// Why it failed; `ENOSPC` when the pool is full.
    pub source: io::Error,
}

type Result<T, E = CopyError> = std::result::Result<T, E>;

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Regular files, each counted once however many links it has.
    pub files: u64,
    /// Directories, without the top one.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files that were copied already.
    pub hard_links: u64,
    /// FIFOs and device nodes.
    pub special: u64,
    /// Overlay whiteouts (character device 0/0), sockets and mounts, which are left out.
    pub skipped: u64,
    /// Bytes of file data, holes not counted.
    pub bytes: u64,
}

/// Copies what is in the directory `source` into the directory `target`, which should be empty, and the attributes of
/// `source` itself to `target`. `ids` undoes the ID mapping of the source's mount.
///
/// # Errors
/// The first entry that could not be copied; `target` then holds a part.
pub fn copy_tree(source: impl AsFd, target: impl AsFd, ids: &IdMap) -> Result<CopyReport> {
    walk::Walk::new(source.as_fd(), target.as_fd(), ids)?.run()
}
