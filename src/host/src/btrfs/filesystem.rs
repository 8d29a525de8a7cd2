//! A btrfs as a whole.

use std::os::fd::AsFd;

use super::ioctl::{self, FsInfoArgs, VolArgs};
use super::{BtrfsError, Result};

/// The UUID of a btrfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilesystemId(pub [u8; 16]);

/// Size and free space in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the filesystem.
    pub size: u64,
    /// What can still be written. btrfs says 0 when only its metadata is full.
    pub free: u64,
}

/// Whether an open file is on a btrfs.
pub fn is_btrfs(file: impl AsFd) -> bool {
    const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;
    #[allow(
        clippy::unnecessary_cast,
        reason = "f_type is signed on some targets and of other width on others"
    )]
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type as u64 == BTRFS_SUPER_MAGIC)
}

/// The UUID of the filesystem that an open file is on.
pub fn filesystem_id(file: impl AsFd) -> Result<FilesystemId> {
    let mut args = FsInfoArgs::default();
    // SAFETY: FS_INFO reads and fills an FsInfoArgs.
    unsafe { ioctl::call(file, ioctl::FS_INFO, &mut args) }
        .map_err(BtrfsError::because("identify a filesystem"))?;
    Ok(FilesystemId(args.fsid))
}

/// Size and free space.
pub fn space(file: impl AsFd) -> Result<Space> {
    let stat = rustix::fs::fstatvfs(file)
        .map_err(|error| BtrfsError::because("read the free space")(error.into()))?;
    Ok(Space { size: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
}

/// Commits the running transaction and waits for it: everything done so far by name (create, snapshot, rename,
/// quotas) survives a crash. Unlike syncfs(2) this does not write out the dirty file data of every tenant first.
pub fn commit(filesystem: impl AsFd) -> Result<()> {
    let filesystem = filesystem.as_fd();
    let mut transaction = 0_u64;
    // SAFETY: START_SYNC fills a u64.
    unsafe { ioctl::call(filesystem, ioctl::START_SYNC, &mut transaction) }
        .map_err(BtrfsError::because("start a commit"))?;
    // SAFETY: WAIT_SYNC reads a u64.
    unsafe { ioctl::call(filesystem, ioctl::WAIT_SYNC, &mut transaction) }
        .map_err(BtrfsError::because("wait for a commit"))
}

/// Grows the filesystem to the size of its one device. Does nothing if it fills it already.
pub fn grow_to_device(filesystem: impl AsFd) -> Result<()> {
    let mut args = VolArgs::named(b"max")?;
    // SAFETY: RESIZE reads a VolArgs.
    unsafe { ioctl::call(filesystem, ioctl::RESIZE, &mut args) }
        .map_err(BtrfsError::because("grow the filesystem"))
}
