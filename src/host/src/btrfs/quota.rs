//! Simple quotas (squota, Linux 6.7).
//!
//! Every block is charged to the subvolume that wrote it first, until nothing references it any more. A snapshot is
//! born with almost nothing (one tree block), and a subvolume that is made inside another one joins the
//! quota groups of that one (`qgroup_auto_inherit` in fs/btrfs/qgroup.c).

use std::os::fd::AsFd;

use super::ioctl::{
    self, QGROUP_INFO, QGROUP_LIMIT_CLEAR, QGROUP_LIMIT_MAX_RFER, QGROUP_STATUS, QUOTA_TREE,
    QgroupAssignArgs, QgroupCreateArgs, QgroupLimitArgs, QuotaCtlArgs, ROOT_ITEM, ROOT_TREE,
};
use super::subvolume::SubvolumeId;
use super::{BtrfsError, Result};

/// A quota group: `level/id`. Level 0 is one subvolume, higher levels are groups of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Qgroup(u64);

impl Qgroup {
    /// The group `0/<id>` that btrfs makes for every subvolume.
    pub fn subvolume(id: SubvolumeId) -> Self {
        Self(id)
    }

    /// The group `1/<id>` that holds a disk: its subvolume and everything nested in it.
    pub fn disk(id: SubvolumeId) -> Self {
        Self(1 << 48 | id)
    }

    /// 0 for a subvolume's own group.
    pub fn level(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The number after the slash.
    pub fn id(self) -> SubvolumeId {
        self.0 & ((1 << 48) - 1)
    }
}

/// What is charged to a quota group, in bytes, as of the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QgroupUsage {
    /// Bytes written by its members that something still references.
    pub charged: u64,
}

/// Turns simple quotas on; does nothing if they are on. What was written before is never counted.
///
/// # Errors
/// [`BtrfsError::FullQuotas`] if the other kind is on, [`BtrfsError::NoSimpleQuotas`] on an old kernel.
pub fn enable_simple_quotas(filesystem: impl AsFd) -> Result<()> {
    const SIMPLE_MODE: u64 = 1 << 3; // BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE
    let filesystem = filesystem.as_fd();
    // The search fails with ENOENT where no quotas are on.
    let status = ioctl::search(filesystem, QUOTA_TREE, QGROUP_STATUS, 0..=0, 0..=0).unwrap_or_default();
    if let Some(item) = status.first() {
        // struct btrfs_qgroup_status_item: version, generation, flags, rescan.
        return if item.u64_at(16) & SIMPLE_MODE == 0 { Err(BtrfsError::FullQuotas) } else { Ok(()) };
    }
    let mut args = QuotaCtlArgs { cmd: ioctl::QUOTA_CTL_ENABLE_SIMPLE, status: 0 };
    // SAFETY: QUOTA_CTL reads and fills a QuotaCtlArgs.
    unsafe { ioctl::call(filesystem, ioctl::QUOTA_CTL, &mut args) }.map_err(|error| {
        match error.raw_os_error() {
            Some(libc::EINVAL) => BtrfsError::NoSimpleQuotas,
            _ => BtrfsError::because("turn on simple quotas")(error),
        }
    })
}

/// Makes a quota group; does nothing if it is there.
pub fn create_qgroup(filesystem: impl AsFd, group: Qgroup) -> Result<()> {
    let mut args = QgroupCreateArgs { create: 1, qgroupid: group.0 };
    // SAFETY: QGROUP_CREATE reads a QgroupCreateArgs.
    let result = unsafe { ioctl::call(filesystem, ioctl::QGROUP_CREATE, &mut args) };
    ignore(result, &[libc::EEXIST]).map_err(BtrfsError::because("make a quota group"))
}

/// Removes a quota group.
///
/// # Errors
/// `EBUSY` while it has members, or while blocks that it wrote are still referenced by somebody.
pub fn destroy_qgroup(filesystem: impl AsFd, group: Qgroup) -> Result<()> {
    let mut args = QgroupCreateArgs { create: 0, qgroupid: group.0 };
    // SAFETY: QGROUP_CREATE reads a QgroupCreateArgs.
    unsafe { ioctl::call(filesystem, ioctl::QGROUP_CREATE, &mut args) }
        .map_err(BtrfsError::because("remove a quota group"))
}

/// Makes `member` a member of `group`; does nothing if it is one.
pub fn assign_qgroup(filesystem: impl AsFd, member: Qgroup, group: Qgroup) -> Result<()> {
    let mut args = QgroupAssignArgs { assign: 1, src: member.0, dst: group.0 };
    // SAFETY: QGROUP_ASSIGN reads a QgroupAssignArgs.
    let result = unsafe { ioctl::call(filesystem, ioctl::QGROUP_ASSIGN, &mut args) };
    ignore(result, &[libc::EEXIST]).map_err(BtrfsError::because("put a subvolume into its quota group"))
}

/// Sets what may be charged to a group, in bytes; `None` lifts the limit. Writes beyond it fail with `EDQUOT`.
pub fn limit_qgroup(filesystem: impl AsFd, group: Qgroup, limit: Option<u64>) -> Result<()> {
    let mut args = QgroupLimitArgs {
        qgroupid: group.0,
        flags: QGROUP_LIMIT_MAX_RFER,
        max_rfer: limit.unwrap_or(QGROUP_LIMIT_CLEAR),
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    // SAFETY: QGROUP_LIMIT reads a QgroupLimitArgs.
    unsafe { ioctl::call(filesystem, ioctl::QGROUP_LIMIT, &mut args) }
        .map_err(BtrfsError::because("limit a quota group"))
}

/// What is charged to a group; zero if there is no such group.
pub fn qgroup_usage(filesystem: impl AsFd, group: Qgroup) -> Result<QgroupUsage> {
    let items = ioctl::search(filesystem, QUOTA_TREE, QGROUP_INFO, 0..=0, group.0..=group.0)
        .map_err(BtrfsError::because("read the usage of a quota group"))?;
    // struct btrfs_qgroup_info_item: generation, rfer, …
    Ok(QgroupUsage { charged: items.first().map_or(0, |item| item.u64_at(8)) })
}

/// All quota groups.
pub fn qgroups(filesystem: impl AsFd) -> Result<Vec<Qgroup>> {
    let items = ioctl::search(filesystem, QUOTA_TREE, QGROUP_INFO, 0..=0, 0..=u64::MAX)
        .map_err(BtrfsError::because("list quota groups"))?;
    Ok(items.iter().map(|item| Qgroup(item.offset)).collect())
}

/// Removes the quota groups of disks and subvolumes that are gone. A group that is still charged for blocks that a
/// fork shares can't go yet (`EBUSY`); a later call takes it. Returns how many were removed.
pub fn remove_stale_qgroups(filesystem: impl AsFd) -> Result<usize> {
    let filesystem = filesystem.as_fd();
    let mut removed = 0;
    // Level 0 first: a group with members can't be removed.
    for group in qgroups(filesystem)?.into_iter().filter(|group| group.level() <= 1) {
        if !subvolume_exists(filesystem, group.id())? {
            match destroy_qgroup(filesystem, group) {
                Ok(()) => removed += 1,
                Err(error) if matches!(error.os_error(), Some(libc::EBUSY | libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

fn subvolume_exists(filesystem: impl AsFd, id: SubvolumeId) -> Result<bool> {
    const FIRST_SUBVOLUME: u64 = 256;
    if id < FIRST_SUBVOLUME {
        return Ok(true);
    }
    let items = ioctl::search(filesystem, ROOT_TREE, ROOT_ITEM, id..=id, 0..=u64::MAX)
        .map_err(BtrfsError::because("look for a subvolume"))?;
    Ok(!items.is_empty())
}

fn ignore(result: std::io::Result<()>, codes: &[i32]) -> std::io::Result<()> {
    match result {
        Err(error) if error.raw_os_error().is_some_and(|code| codes.contains(&code)) => Ok(()),
        other => other,
    }
}
