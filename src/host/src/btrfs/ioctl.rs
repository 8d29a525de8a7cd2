//! Numbers and layouts of `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, opcode};

const MAGIC: u8 = 0x94;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub(super) struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2` for the calls that name a subvolume.
#[repr(C)]
pub(super) struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
pub(super) struct InoLookupArgs {
    pub treeid: u64,
    pub objectid: u64,
    pub name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`, as far as it is read.
#[repr(C)]
pub(super) struct FsInfoArgs {
    pub max_id: u64,
    pub num_devices: u64,
    pub fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
pub(super) struct QuotaCtlArgs {
    pub cmd: u64,
    pub status: u64,
}

/// `struct btrfs_ioctl_qgroup_assign_args`.
#[repr(C)]
pub(super) struct QgroupAssignArgs {
    pub assign: u64,
    pub src: u64,
    pub dst: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
pub(super) struct QgroupCreateArgs {
    pub create: u64,
    pub qgroupid: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
pub(super) struct QgroupLimitArgs {
    pub qgroupid: u64,
    pub flags: u64,
    pub max_rfer: u64,
    pub max_excl: u64,
    pub rsv_rfer: u64,
    pub rsv_excl: u64,
}

/// `struct btrfs_ioctl_search_key`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SearchKey {
    pub tree_id: u64,
    pub min_objectid: u64,
    pub max_objectid: u64,
    pub min_offset: u64,
    pub max_offset: u64,
    pub min_transid: u64,
    pub max_transid: u64,
    pub min_type: u32,
    pub max_type: u32,
    pub nr_items: u32,
    pub unused: [u32; 9],
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
pub(super) struct SearchArgs {
    pub key: SearchKey,
    pub buf: [u8; 3992],
}

const _: () = {
    assert!(size_of::<VolArgs>() == 4096);
    assert!(size_of::<VolArgsV2>() == 4096);
    assert!(size_of::<InoLookupArgs>() == 4096);
    assert!(size_of::<FsInfoArgs>() == 1024);
    assert!(size_of::<SearchArgs>() == 4096);
    assert!(size_of::<QgroupLimitArgs>() == 48);
};

pub(super) const RESIZE: Opcode = opcode::write::<VolArgs>(MAGIC, 3);
pub(super) const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 15);
pub(super) const TREE_SEARCH: Opcode = opcode::read_write::<SearchArgs>(MAGIC, 17);
pub(super) const INO_LOOKUP: Opcode = opcode::read_write::<InoLookupArgs>(MAGIC, 18);
pub(super) const WAIT_SYNC: Opcode = opcode::write::<u64>(MAGIC, 22);
pub(super) const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
pub(super) const START_SYNC: Opcode = opcode::read::<u64>(MAGIC, 24);
pub(super) const SUBVOL_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 24);
pub(super) const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
pub(super) const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
pub(super) const FS_INFO: Opcode = opcode::read::<FsInfoArgs>(MAGIC, 31);
pub(super) const QUOTA_CTL: Opcode = opcode::read_write::<QuotaCtlArgs>(MAGIC, 40);
pub(super) const QGROUP_ASSIGN: Opcode = opcode::write::<QgroupAssignArgs>(MAGIC, 41);
pub(super) const QGROUP_CREATE: Opcode = opcode::write::<QgroupCreateArgs>(MAGIC, 42);
pub(super) const QGROUP_LIMIT: Opcode = opcode::read::<QgroupLimitArgs>(MAGIC, 43);

pub(super) const SUBVOL_RDONLY: u64 = 1 << 1;
pub(super) const QUOTA_CTL_ENABLE_SIMPLE: u64 = 4;
pub(super) const QGROUP_LIMIT_MAX_RFER: u64 = 1;
/// A limit of this value clears it (btrfs_limit_qgroup in fs/btrfs/qgroup.c).
pub(super) const QGROUP_LIMIT_CLEAR: u64 = u64::MAX;

pub(super) const ROOT_TREE: u64 = 1;
pub(super) const QUOTA_TREE: u64 = 8;
/// Inode of the top directory of every subvolume (BTRFS_FIRST_FREE_OBJECTID).
pub(super) const TOP_INODE: u64 = 256;
/// Inode of the empty directory that a snapshot shows in the place of a nested subvolume.
pub(super) const PLACEHOLDER_INODE: u64 = 2;
pub(super) const ROOT_ITEM: u32 = 132;
pub(super) const ROOT_REF: u32 = 156;
pub(super) const QGROUP_STATUS: u32 = 240;
pub(super) const QGROUP_INFO: u32 = 242;

impl VolArgs {
    pub(super) fn named(name: &[u8]) -> super::Result<Self> {
        Ok(Self { fd: 0, name: c_name(name)? })
    }
}

impl VolArgsV2 {
    pub(super) fn named(name: &[u8], source: i64, flags: u64) -> super::Result<Self> {
        Ok(Self { fd: source, transid: 0, flags, unused: [0; 4], name: c_name(name)? })
    }
}

impl Default for FsInfoArgs {
    fn default() -> Self {
        Self { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 992] }
    }
}

/// Names of subvolumes are file names: at most 255 bytes.
fn c_name<const N: usize>(name: &[u8]) -> super::Result<[u8; N]> {
    if name.is_empty() || name.len() > 255 || name.contains(&0) {
        return Err(super::BtrfsError::Name(name.to_vec()));
    }
    let mut field = [0; N];
    field[..name.len()].copy_from_slice(name);
    Ok(field)
}

/// Calls a btrfs ioctl, which returns 0 or an error.
///
/// # Safety
/// `opcode` must take a pointer to exactly `T`.
pub(super) unsafe fn call<T>(fd: impl AsFd, opcode: Opcode, argument: &mut T) -> io::Result<()> {
    // SAFETY: passed on to the caller.
    unsafe { crate::sys::ioctl(fd, opcode, argument) }.map(drop)
}

/// One item of a tree.
pub(super) struct Item {
    pub offset: u64,
    pub data: Vec<u8>,
}

impl Item {
    /// The little-endian number at byte `at`, or 0 past the end.
    pub(super) fn u64_at(&self, at: usize) -> u64 {
        self.data.get(at..at + 8).map_or(0, |bytes| {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            u64::from_le_bytes(word)
        })
    }
}

/// All items of one type in a tree whose object is in `objects`, and whose offset is in `offsets`.
pub(super) fn search(
    fd: impl AsFd,
    tree_id: u64,
    kind: u32,
    objects: std::ops::RangeInclusive<u64>,
    offsets: std::ops::RangeInclusive<u64>,
) -> io::Result<Vec<Item>> {
    let fd = fd.as_fd();
    let mut key = SearchKey {
        tree_id,
        min_objectid: *objects.start(),
        max_objectid: *objects.end(),
        min_offset: *offsets.start(),
        max_offset: *offsets.end(),
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: kind,
        max_type: kind,
        nr_items: 0,
        unused: [0; 9],
    };
    let mut found = Vec::new();
    loop {
        key.nr_items = 4096;
        let mut args = SearchArgs { key, buf: [0; 3992] };
        // SAFETY: TREE_SEARCH reads and fills a SearchArgs.
        unsafe { call(fd, TREE_SEARCH, &mut args) }?;
        let Some((object, item_kind, offset)) = take_items(&args, kind, &objects, &offsets, &mut found)
        else {
            return Ok(found);
        };
        // The range is one of 136-bit keys (object, type, offset): go on right behind the last one.
        key.min_objectid = object;
        key.min_type = item_kind;
        let Some(next) = offset.checked_add(1) else { return Ok(found) };
        key.min_offset = next;
    }
}

/// Reads the items out of a search buffer; returns the key of the last one, none if there was none. Items of other
/// types between the first and the last key come along and are left out.
fn take_items(
    args: &SearchArgs,
    kind: u32,
    objects: &std::ops::RangeInclusive<u64>,
    offsets: &std::ops::RangeInclusive<u64>,
    found: &mut Vec<Item>,
) -> Option<(u64, u32, u64)> {
    let mut last = None;
    let mut rest = &args.buf[..];
    for _ in 0..args.key.nr_items {
        // struct btrfs_ioctl_search_header: transid, objectid, offset, type, len.
        let (head, tail) = rest.split_at_checked(32)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let (objectid, offset, item_kind) = (word(8), word(16), half(24));
        let (data, after) = tail.split_at_checked(half(28) as usize)?;
        rest = after;
        last = Some((objectid, item_kind, offset));
        if item_kind == kind && objects.contains(&objectid) && offsets.contains(&offset) {
            found.push(Item { offset, data: data.to_vec() });
        }
    }
    last
}
