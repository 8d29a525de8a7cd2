//! Subvolumes that a tenant made inside a subvolume.
//!
//! btrfs snapshots and deletes one subvolume at a time. A snapshot shows a nested subvolume as an empty directory
//! (inode 2), and a subvolume with nested ones can't be deleted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType};

use super::ioctl::{self, InoLookupArgs, PLACEHOLDER_INODE, ROOT_REF, ROOT_TREE, SNAP_DESTROY, VolArgs};
use super::subvolume::{SubvolumeId, is_read_only, open_subvolume, set_read_only, snapshot, subvolume_id};
use super::{BtrfsError, Result};

/// A subvolume inside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// Its number.
    pub id: SubvolumeId,
    /// The subvolume it is directly in.
    pub parent: SubvolumeId,
    /// Inode number of its directory, in `parent`.
    pub directory: u64,
    /// Its name there.
    pub name: Vec<u8>,
}

/// All subvolumes below `subvolume`, parents before their children. `filesystem` is any file of the filesystem.
pub fn nested_subvolumes(filesystem: impl AsFd, subvolume: SubvolumeId) -> Result<Vec<Nested>> {
    let filesystem = filesystem.as_fd();
    let mut found = children(filesystem, subvolume)?;
    let mut next = 0;
    while let Some(id) = found.get(next).map(|nested: &Nested| nested.id) {
        found.extend(children(filesystem, id)?);
        next += 1;
    }
    Ok(found)
}

fn children(filesystem: BorrowedFd<'_>, parent: SubvolumeId) -> Result<Vec<Nested>> {
    let items = ioctl::search(filesystem, ROOT_TREE, ROOT_REF, parent..=parent, 0..=u64::MAX)
        .map_err(BtrfsError::because("list nested subvolumes"))?;
    // struct btrfs_root_ref: dirid, sequence, name_len (2 bytes), then the name.
    let nested = |item: &ioctl::Item| Nested {
        id: item.offset,
        parent,
        directory: item.u64_at(0),
        name: item.data.get(18..).unwrap_or_default().to_vec(),
    };
    Ok(items.iter().map(nested).collect())
}

/// The path of a nested subvolume relative to the top of the subvolume it is directly in, as raw bytes. For people
/// and for names in a stream; to open it, use [`open_subvolume`].
///
/// # Errors
/// `ENAMETOOLONG` if the path is longer than 4 KiB, which a tenant can arrange.
pub fn nested_path(filesystem: impl AsFd, nested: &Nested) -> Result<Vec<u8>> {
    let mut args = InoLookupArgs { treeid: nested.parent, objectid: nested.directory, name: [0; 4080] };
    // SAFETY: INO_LOOKUP reads and fills an InoLookupArgs.
    unsafe { ioctl::call(filesystem, ioctl::INO_LOOKUP, &mut args) }
        .map_err(BtrfsError::because("find the path of a nested subvolume"))?;
    let mut path: Vec<u8> = args.name.iter().copied().take_while(|byte| *byte != 0).collect();
    path.extend_from_slice(&nested.name);
    Ok(path)
}

/// Puts snapshots of the nested subvolumes of `source` into `copy`, a writable snapshot of it, at the same places,
/// and at any depth. Nested subvolumes that are read-only stay so. Returns how many there are.
///
/// A nested subvolume that its tenant moves or deletes between the two snapshots is left out; its place then holds an
/// empty directory.
pub fn snapshot_nested(filesystem: impl AsFd, source: SubvolumeId, copy: SubvolumeId) -> Result<usize> {
    let filesystem = filesystem.as_fd();
    let mut count = 0;
    for nested in children(filesystem, source)? {
        // Snapshots keep inode numbers, so the directory has the same one in the copy.
        let Ok(directory) = crate::sys::open_by_inode(filesystem, copy, nested.directory) else { continue };
        if !remove_placeholder(&directory, &nested.name)? {
            continue;
        }
        let Ok(original) = open_subvolume(filesystem, nested.id) else { continue };
        let id = snapshot(&original, &directory, &nested.name, false)?;
        count += 1 + snapshot_nested(filesystem, nested.id, id)?;
        if is_read_only(&original)? {
            set_read_only(open_subvolume(filesystem, id)?, true)?;
        }
    }
    Ok(count)
}

/// Removes the empty directory that stands for a nested subvolume; false if there is something else, or nothing.
fn remove_placeholder(directory: &OwnedFd, name: &[u8]) -> Result<bool> {
    let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(false) };
    if stat.st_ino != PLACEHOLDER_INODE || FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(false);
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
        .map_err(|error| BtrfsError::because("make place for a nested snapshot")(error.into()))?;
    Ok(true)
}

/// Deletes the subvolume `name` in the directory `parent` with everything nested in it, innermost first. btrfs frees
/// the space in the background.
///
/// # Errors
/// `ENOTEMPTY` if somebody keeps making subvolumes in it meanwhile; `EPERM` while it is being sent.
pub fn delete_subvolume(parent: impl AsFd, name: &str) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let parent = parent.as_fd();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let subvolume = rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| BtrfsError::because("open a subvolume to delete it")(error.into()))?;
    for nested in nested_subvolumes(&subvolume, subvolume_id(&subvolume)?)?.iter().rev() {
        // An entry of a read-only subvolume can't be removed.
        set_read_only(open_subvolume(&subvolume, nested.parent)?, false)?;
        let directory = crate::sys::open_by_inode(&subvolume, nested.parent, nested.directory)
            .map_err(BtrfsError::because("open the directory of a nested subvolume"))?;
        destroy(directory.as_fd(), &nested.name)?;
    }
    destroy(parent, name.as_bytes())
}

fn destroy(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let mut args = VolArgs::named(name)?;
    // SAFETY: SNAP_DESTROY reads a VolArgs.
    unsafe { ioctl::call(parent, SNAP_DESTROY, &mut args) }.map_err(BtrfsError::because("delete a subvolume"))
}
