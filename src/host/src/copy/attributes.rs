//! Owner, mode, extended attributes and times, in this order: chown(2) drops file capabilities and set-user-ID bits,
//! chmod(2) changes the mask of an ACL.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Statx, Timespec, Timestamps, Uid, XattrFlags};

use super::ids::IdMap;

/// Attributes of an open file or directory.
pub(super) fn copy_to_fd(source: impl AsFd, target: impl AsFd, stat: &Statx, ids: &IdMap) -> io::Result<()> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let (uid, gid) = owner(stat, ids);
    rustix::fs::fchown(target, Some(uid), Some(gid))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.stx_mode.into()))?;
    let names = read_all(|buffer: &mut [u8]| rustix::fs::flistxattr(source, buffer))?;
    for name in copied_names(&names) {
        let value = read_all(|buffer: &mut [u8]| rustix::fs::fgetxattr(source, name, buffer))?;
        rustix::fs::fsetxattr(target, name, &unmapped(name, value, ids), XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(target, &times(stat))?)
}

/// Attributes of an entry that must not be opened: a symbolic link, a FIFO or a device.
pub(super) fn copy_by_name(
    source: impl AsFd,
    target: impl AsFd,
    name: &CStr,
    stat: &Statx,
    ids: &IdMap,
) -> io::Result<()> {
    let (uid, gid) = owner(stat, ids);
    rustix::fs::chownat(&target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Symlink {
        rustix::fs::chmodat(&target, name, Mode::from_raw_mode(stat.stx_mode.into()), AtFlags::empty())?;
    }
    // The xattr calls of Linux have no form with a directory (before 6.13) but take no link at the last component.
    let (from, to) = (place(&source, name), place(&target, name));
    let names = read_all(|buffer: &mut [u8]| rustix::fs::llistxattr(&from, buffer))?;
    for attribute in copied_names(&names) {
        let value = read_all(|buffer: &mut [u8]| rustix::fs::lgetxattr(&from, attribute, buffer))?;
        rustix::fs::lsetxattr(&to, attribute, &unmapped(attribute, value, ids), XattrFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(&target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A path of one component in an open directory.
fn place(directory: impl AsFd, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    path
}

fn owner(stat: &Statx, ids: &IdMap) -> (Uid, Gid) {
    (Uid::from_raw(ids.uid(stat.stx_uid)), Gid::from_raw(ids.gid(stat.stx_gid)))
}

fn times(stat: &Statx) -> Timestamps {
    let modified = Timespec { tv_sec: stat.stx_mtime.tv_sec, tv_nsec: stat.stx_mtime.tv_nsec.into() };
    Timestamps { last_access: modified, last_modification: modified }
}

/// Calls a function that fills a buffer, with more room when it was too small. Most files have no attributes.
fn read_all(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// All but those that describe the source's own filesystem: overlayfs's marks and SELinux's label.
fn copied_names(names: &[u8]) -> impl Iterator<Item = &CStr> {
    let all =
        names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    all.filter(|name| {
        let name = name.to_bytes();
        name != b"security.selinux"
            && !name.starts_with(b"trusted.overlay.")
            && !name.starts_with(b"user.overlay.")
    })
}

/// Two kinds of attributes hold IDs, which an ID-mapped source shows mapped.
fn unmapped(name: &CStr, value: Vec<u8>, ids: &IdMap) -> Vec<u8> {
    match name.to_bytes() {
        b"security.capability" => unmapped_capability(value, ids),
        b"system.posix_acl_access" | b"system.posix_acl_default" => unmapped_acl(value, ids),
        _ => value,
    }
}

fn u32_at(value: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?))
}

/// `struct vfs_ns_cap_data` (include/uapi/linux/capability.h): revision 3 is revision 2 and the ID of a root user.
fn unmapped_capability(mut value: Vec<u8>, ids: &IdMap) -> Vec<u8> {
    const REVISION_MASK: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    let (Some(head), Some(root)) = (u32_at(&value, 0), u32_at(&value, 20)) else { return value };
    if head & REVISION_MASK != REVISION_3 {
        return value;
    }
    match ids.uid(root) {
        0 => {
            value.truncate(20);
            value[..4].copy_from_slice(&(head & !REVISION_MASK | REVISION_2).to_le_bytes());
        }
        root => value[20..24].copy_from_slice(&root.to_le_bytes()),
    }
    value
}

/// `struct posix_acl_xattr_entry` (include/uapi/linux/posix_acl_xattr.h), after a header of 4 bytes.
fn unmapped_acl(mut value: Vec<u8>, ids: &IdMap) -> Vec<u8> {
    const ACL_USER: u16 = 0x02;
    const ACL_GROUP: u16 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let Some(id) = u32_at(entry, 4) else { continue };
        let id = match tag {
            ACL_USER => ids.uid(id),
            ACL_GROUP => ids.gid(id),
            _ => continue,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_of_the_namespaces_root_becomes_one_of_every_root() {
        let ids = IdMap::parse("0 100000 65536", "0 100000 65536");
        let mut seen = 0x0300_0001_u32.to_le_bytes().to_vec();
        seen.extend([7; 16]);
        seen.extend(100_000_u32.to_le_bytes());
        let copied = unmapped(c"security.capability", seen, &ids);
        assert_eq!(copied.len(), 20);
        assert_eq!(u32_at(&copied, 0), Some(0x0200_0001));
        assert_eq!(copied[4..], [7; 16]);
    }

    #[test]
    fn the_ids_in_an_acl_are_mapped_back() {
        let ids = IdMap::parse("0 100000 65536", "0 200000 65536");
        let acl = |user: u32, group: u32| {
            let mut value = 2_u32.to_le_bytes().to_vec();
            for (tag, id) in [(1_u16, u32::MAX), (2, user), (8, group), (32, u32::MAX)] {
                value.extend(tag.to_le_bytes());
                value.extend(6_u16.to_le_bytes());
                value.extend(id.to_le_bytes());
            }
            value
        };
        assert_eq!(unmapped(c"system.posix_acl_access", acl(101_000, 200_005), &ids), acl(1000, 5));
    }
}
