//! One subvolume: create, snapshot, identify, make read-only.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::ioctl::{self, InoLookupArgs, TOP_INODE, VolArgsV2};
use super::{BtrfsError, Result};

/// The number of a subvolume, unique in its filesystem for all time.
pub type SubvolumeId = u64;

/// Makes an empty subvolume `name` in the directory `parent`.
///
/// # Errors
/// [`BtrfsError::Ioctl`] with `EEXIST` if the name is taken.
pub fn create_subvolume(parent: impl AsFd, name: &str) -> Result<SubvolumeId> {
    let parent = parent.as_fd();
    let mut args = VolArgsV2::named(name.as_bytes(), 0, 0)?;
    // SAFETY: SUBVOL_CREATE_V2 reads a VolArgsV2.
    unsafe { ioctl::call(parent, ioctl::SUBVOL_CREATE_V2, &mut args) }
        .map_err(BtrfsError::because("create a subvolume"))?;
    child_id(parent, name.as_bytes())
}

/// Makes a snapshot `name` of the subvolume `source` in the directory `parent`, without nested subvolumes: see
/// [`snapshot_nested`](super::snapshot_nested). Dirty data of the source is written out first, and the snapshot is on
/// disk when the call returns (`btrfs_mksnapshot` commits the transaction).
///
/// # Errors
/// `EEXIST` if the name is taken, `EXDEV` if the source is on another filesystem, `EINVAL` if it is no subvolume.
pub fn snapshot(source: impl AsFd, parent: impl AsFd, name: &[u8], read_only: bool) -> Result<SubvolumeId> {
    let parent = parent.as_fd();
    let flags = if read_only { ioctl::SUBVOL_RDONLY } else { 0 };
    let mut args = VolArgsV2::named(name, i64::from(source.as_fd().as_raw_fd()), flags)?;
    // SAFETY: SNAP_CREATE_V2 reads a VolArgsV2, and the source stays open for the call.
    unsafe { ioctl::call(parent, ioctl::SNAP_CREATE_V2, &mut args) }
        .map_err(BtrfsError::because("make a snapshot"))?;
    child_id(parent, name)
}

fn child_id(parent: impl AsFd, name: &[u8]) -> Result<SubvolumeId> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let child = rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| BtrfsError::because("open the new subvolume")(error.into()))?;
    subvolume_id(child)
}

/// The number of the subvolume that an open file or directory is in.
pub fn subvolume_id(file: impl AsFd) -> Result<SubvolumeId> {
    let mut args = InoLookupArgs { treeid: 0, objectid: TOP_INODE, name: [0; 4080] };
    // SAFETY: INO_LOOKUP reads and fills an InoLookupArgs.
    unsafe { ioctl::call(file, ioctl::INO_LOOKUP, &mut args) }
        .map_err(BtrfsError::because("read the ID of a subvolume"))?;
    Ok(args.treeid)
}

/// Opens the top directory of a subvolume by its number, wherever it is. `filesystem` is any file of that filesystem
/// whose mount is to be used.
///
/// # Errors
/// `ESTALE` if there is no such subvolume.
pub fn open_subvolume(filesystem: impl AsFd, id: SubvolumeId) -> Result<OwnedFd> {
    crate::sys::open_by_inode(filesystem, id, TOP_INODE)
        .map_err(BtrfsError::because("open a subvolume by its ID"))
}

/// Whether the subvolume is read-only.
pub fn is_read_only(subvolume: impl AsFd) -> Result<bool> {
    Ok(flags(subvolume)? & ioctl::SUBVOL_RDONLY != 0)
}

/// Makes a subvolume read-only or writable. Does nothing if it is so already.
///
/// # Errors
/// `EBUSY`/`ETXTBSY` while it is being sent.
pub fn set_read_only(subvolume: impl AsFd, read_only: bool) -> Result<()> {
    let subvolume = subvolume.as_fd();
    let old = flags(subvolume)?;
    let mut new = if read_only { old | ioctl::SUBVOL_RDONLY } else { old & !ioctl::SUBVOL_RDONLY };
    if new == old {
        return Ok(());
    }
    // SAFETY: SUBVOL_SETFLAGS reads a u64.
    unsafe { ioctl::call(subvolume, ioctl::SUBVOL_SETFLAGS, &mut new) }
        .map_err(BtrfsError::because("change whether a subvolume is read-only"))
}

fn flags(subvolume: impl AsFd) -> Result<u64> {
    let mut flags = 0_u64;
    // SAFETY: SUBVOL_GETFLAGS fills a u64.
    unsafe { ioctl::call(subvolume, ioctl::SUBVOL_GETFLAGS, &mut flags) }
        .map_err(BtrfsError::because("read the flags of a subvolume"))?;
    Ok(flags)
}
