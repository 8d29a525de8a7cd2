//! btrfs by its ioctls: subvolumes, snapshots that take nested subvolumes along, and simple quotas.
//!
//! The ioctls are called directly because btrfs-progs before 6.7 do not know simple quotas. Their layouts are in
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`; the kernel's own description of simple quotas is in
//! `Documentation/filesystems/btrfs.rst` and in btrfs-quota(5).
//!
//! Paths inside a subvolume are hostile: its tenant wrote them, at any depth and length. No function here resolves
//! one. Nested subvolumes are found in the root tree, and their directories are opened by inode number.

mod filesystem;
mod ioctl;
mod nested;
mod quota;
mod subvolume;

pub use filesystem::{FilesystemId, Space, commit, filesystem_id, grow_to_device, is_btrfs, space};
pub use nested::{Nested, delete_subvolume, nested_path, nested_subvolumes, snapshot_nested};
pub use quota::{
    Qgroup, QgroupUsage, assign_qgroup, create_qgroup, destroy_qgroup, enable_simple_quotas, limit_qgroup,
    qgroup_usage, qgroups, remove_stale_qgroups,
};
pub use subvolume::{
    SubvolumeId, create_subvolume, is_read_only, open_subvolume, set_read_only, snapshot, subvolume_id,
};

/// Why a btrfs call failed.
#[derive(Debug, thiserror::Error)]
pub enum BtrfsError {
    /// An ioctl failed.
    #[error("btrfs: cannot {action}: {source}")]
    Ioctl {
        /// What was tried, in words.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A subvolume name has a NUL in it or is too long.
    #[error("btrfs: {0:?} can't be the name of a subvolume (1 to 255 bytes, no NUL)")]
    Name(Vec<u8>),
    /// The filesystem has quotas of the other kind.
    #[error(
        "btrfs: this filesystem has full quotas on, which slow down every snapshot; \
         turn them off with `btrfs quota disable`, then simple quotas are turned on"
    )]
    FullQuotas,
    /// The kernel has no simple quotas.
    #[error("btrfs: this kernel has no simple quotas; Linux 6.7 or later is needed")]
    NoSimpleQuotas,
}

impl BtrfsError {
    fn because(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Ioctl { action, source }
    }

    /// The kernel's error, if it was the kernel that refused.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::Ioctl { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

type Result<T, E = BtrfsError> = std::result::Result<T, E>;
