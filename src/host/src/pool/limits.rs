//! Limits, the allowance on top of them, and what disks use.

use std::collections::HashMap;

use super::layout::{Sharing, TRASH, VOLUMES, VolumeRecord};
use super::types::{Disk, DiskSource, DiskUsage};
use super::{Pool, PoolError, Result};
use crate::btrfs::{self, Qgroup, SubvolumeId};

impl Pool {
    /// Makes the quota group of a disk, with its subvolume in it.
    pub(super) fn make_group(&self, id: SubvolumeId) -> Result<()> {
        btrfs::create_qgroup(&self.root, Qgroup::disk(id))?;
        Ok(btrfs::assign_qgroup(&self.root, Qgroup::subvolume(id), Qgroup::disk(id))?)
    }

    /// Puts a disk's limit in force.
    pub(super) fn limit_disk(&self, disk: &Disk, sharing: &Sharing) -> Result<()> {
        let limit = disk.limit_bytes.map(|limit| limit.saturating_add(sharing.allowance_bytes));
        Ok(btrfs::limit_qgroup(&self.root, Qgroup::disk(disk.subvol_id), limit)?)
    }

    fn charged(&self, disk: &Disk) -> Result<u64> {
        Ok(btrfs::qgroup_usage(&self.root, Qgroup::disk(disk.subvol_id))?.charged)
    }

    /// Changes the limit of a disk, in bytes; `None` lifts it.
    ///
    /// # Errors
    /// [`PoolError::LimitBelowUsage`] if the disk already holds more of its own.
    pub fn set_limit(&self, uid: &str, disk: &str, limit_bytes: Option<u64>) -> Result<()> {
        // Usage is exact at a commit only.
        self.commit()?;
        self.change_disk(uid, disk, |known, sharing| {
            let used = self.charged(known)?.saturating_sub(sharing.allowance_bytes);
            if let Some(limit) = limit_bytes.filter(|limit| *limit < used) {
                let (uid, disk) = (uid.to_owned(), disk.to_owned());
                return Err(PoolError::LimitBelowUsage { uid, disk, limit, used });
            }
            known.limit_bytes = limit_bytes;
            Ok(())
        })?;
        self.commit()
    }

    /// Raises the allowances of the disks that a volume was just made from. It has to be in its place by now, so that
    /// nobody lowers them again.
    pub(super) fn allow_sources(&self, made: &VolumeRecord) -> Result<()> {
        for (disk, sharing) in made.disks() {
            let (DiskSource::Volume { uid, disk }, Some(hold)) = (&disk.source, sharing.holds.first()) else {
                continue;
            };
            let raise = |_: &mut Disk, source: &mut Sharing| {
                source.allowance_bytes = source.allowance_bytes.max(hold.bytes);
                Ok(())
            };
            match self.change_disk(uid, disk, raise) {
                // Trashed meanwhile.
                Err(PoolError::NoVolume { .. }) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Sets the allowances to what living forks and checkpoints may hold. btrfs frees the blocks of a deleted one in
    /// the background: a disk that is still charged for them keeps its allowance until the next call.
    pub(super) fn renew_allowances(&self) -> Result<()> {
        let used = self.records(VOLUMES)?;
        let mut held: HashMap<SubvolumeId, u64> = HashMap::new();
        let trashed = self.records(TRASH)?;
        let sharing = used.iter().chain(&trashed).flat_map(|record| &record.sharing);
        for hold in sharing.flat_map(|sharing| &sharing.holds) {
            let most = held.entry(hold.subvol_id).or_default();
            *most = hold.bytes.max(*most);
        }
        for record in &used {
            for (disk, sharing) in record.disks() {
                let allowance = held.get(&disk.subvol_id).copied().unwrap_or_default();
                let limit = disk.limit_bytes.unwrap_or(u64::MAX).saturating_add(allowance);
                let fits = allowance > sharing.allowance_bytes || self.charged(disk)? <= limit;
                if allowance != sharing.allowance_bytes && fits {
                    self.change_disk(&record.volume.uid, &disk.name, |_, sharing| {
                        sharing.allowance_bytes = allowance;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Changes what is stored about a disk, and puts its limit in force if something changed.
    fn change_disk(
        &self,
        uid: &str,
        name: &str,
        change: impl FnOnce(&mut Disk, &mut Sharing) -> Result<()>,
    ) -> Result<()> {
        let _lock = self.lock_records();
        let mut record = self.record(uid)?;
        let missing = || PoolError::NoDisk { uid: uid.to_owned(), disk: name.to_owned() };
        let mut disks = record.volume.disks.iter_mut().zip(&mut record.sharing);
        let (disk, sharing) = disks.find(|(disk, _)| disk.name == name).ok_or_else(missing)?;
        let before = (disk.clone(), sharing.clone());
        change(disk, sharing)?;
        if (&before.0, &before.1) == (&*disk, &*sharing) {
            return Ok(());
        }
        self.limit_disk(disk, sharing)?;
        self.write_record(&format!("{VOLUMES}/{uid}"), &record)
    }

    /// What each disk of a volume uses, as of btrfs's last commit (every 30 s, and at every snapshot).
    pub fn usage(&self, uid: &str) -> Result<Vec<DiskUsage>> {
        let usage = |disk: &Disk| {
            let own = self.charged(disk)?;
            Ok(DiskUsage {
                disk: disk.name.clone(),
                referenced_bytes: disk.inherited_bytes + own,
                exclusive_bytes: own,
                limit_bytes: disk.limit_bytes,
            })
        };
        self.existing(uid)?.disks.iter().map(usage).collect()
    }
}
