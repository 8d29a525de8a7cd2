//! The pod's own files: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
//!
//! They are on a tmpfs at `/etc/sparks`, and links of the disk lead there. A fork finds the links made, so that its attach
//! writes nothing to the disk: a first write would copy a block that all its siblings share, and add a reference to each
//! of that block's children.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::plan::HostFile;
use crate::safe_path::HostileRoot;

/// Where they are, relative to the root.
pub(super) const PLACE: &str = "etc/sparks";
/// Room on the tmpfs: the Spark's root may write there too, and pays for it with its memory.
const SIZE: &str = "1m";
const INODES: &str = "64";
const MODE: u32 = 0o644;

/// Makes the links and the files. Where that can't be done, they are files of the disk, and `None` is returned.
pub(super) fn prepare(
    root: &HostileRoot<'_>,
    files: &[HostFile],
    user_namespace: BorrowedFd<'_>,
    warnings: &mut Vec<String>,
) -> Option<OwnedFd> {
    let place = root.ensure_dir(PLACE).map_err(|error| error.to_string());
    let tree = place.and_then(|_| mount(files, user_namespace).map_err(|error| error.to_string()));
    if let Err(error) = &tree {
        warnings.push(format!("/{PLACE} can't be mounted, so its files are on the disk: {error}"));
    }
    for file in files {
        let path = format!("etc/{}", file.name);
        let done = match &tree {
            Ok(_) => root.replace_with_link(&path, &format!("sparks/{}", file.name)),
            Err(_) => root.replace_file(&path, &file.contents, MODE),
        };
        if let Err(error) = done {
            warnings.push(format!("/{path} was not replaced: {error}"));
        }
    }
    tree.ok()
}

/// A detached tmpfs with the files, mapped to the pod's user namespace (Linux 6.3, as Kubernetes needs for such pods).
fn mount(files: &[HostFile], user_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let filesystem = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in [("size", SIZE), ("nr_inodes", INODES), ("mode", "0755")] {
        rustix::mount::fsconfig_set_string(&filesystem, option, value)?;
    }
    rustix::mount::fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let tree = rustix::mount::fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    for file in files {
        write(tree.as_fd(), file)?;
    }
    super::switch::map(&tree, user_namespace, 0)?;
    Ok(tree)
}

fn write(directory: BorrowedFd<'_>, file: &HostFile) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = rustix::fs::openat(directory, file.name, flags, Mode::from_raw_mode(MODE))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(MODE))?;
    io::Write::write_all(&mut std::fs::File::from(made), &file.contents)
}
