//! System calls that rustix has no wrapper for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::ioctl::Opcode;

/// Calls `ioctl` with a pointer to `argument`, and returns the call's own non-negative result.
///
/// # Safety
/// `opcode` must take a pointer to exactly `T`, or ignore its argument.
pub(crate) unsafe fn ioctl<T>(fd: impl AsFd, opcode: Opcode, argument: &mut T) -> io::Result<i32> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the fd is borrowed for the call, and the caller vouches for the type behind the pointer.
    let result = unsafe { libc::ioctl(fd, opcode as libc::Ioctl, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls an `ioctl` whose argument is a plain number.
///
/// # Safety
/// `opcode` must take a number, not a pointer.
pub(crate) unsafe fn ioctl_number(fd: impl AsFd, opcode: Opcode, argument: libc::c_ulong) -> io::Result<i32> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the fd is borrowed for the call; no memory is handed over.
    let result = unsafe { libc::ioctl(fd, opcode as libc::Ioctl, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets attributes, the ID mapping and the propagation of the one mount behind `mount`: mount_setattr(2).
pub(crate) fn mount_setattr(mount: impl AsFd, attributes: &libc::mount_attr) -> io::Result<()> {
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the path is a static C string, the struct is readable for its whole size, and the kernel keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A file handle as btrfs makes it: `struct btrfs_fid` without its parent part (fs/btrfs/export.h).
#[repr(C, packed)]
struct BtrfsHandle {
    handle_bytes: u32,
    handle_type: i32,
    objectid: u64,
    root_objectid: u64,
    generation: u32,
}

/// Opens an inode of a btrfs by its number and its subvolume, without any path: open_by_handle_at(2).
///
/// `filesystem` is any open file on the mount to use. A generation of 0 matches every inode (`btrfs_get_dentry`).
pub(crate) fn open_by_inode(filesystem: impl AsFd, subvolume: u64, inode: u64) -> io::Result<OwnedFd> {
    const FILEID_BTRFS_WITHOUT_PARENT: i32 = 0x4d;
    let mut handle = BtrfsHandle {
        handle_bytes: 20,
        handle_type: FILEID_BTRFS_WITHOUT_PARENT,
        objectid: inode,
        root_objectid: subvolume,
        generation: 0,
    };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let fd = filesystem.as_fd().as_raw_fd();
    // SAFETY: the handle is laid out as struct file_handle with `handle_bytes` bytes after its two-word head.
    let result =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, fd, std::ptr::from_mut(&mut handle), flags) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}
