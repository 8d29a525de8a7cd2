//! What is done when the pool is opened: a crash is completed or undone, and limits are put in force.

use super::layout::{SUBVOLUME, TMP, VOLUMES, VolumeRecord};
use super::{Pool, PoolError, Result};
use crate::btrfs;

impl Pool {
    pub(super) fn recover(&self) -> Result<()> {
        self.make_directories()?;
        btrfs::enable_simple_quotas(&self.root)?;
        for name in self.entries(TMP)? {
            if !self.complete(&name)? {
                self.doom(&name)?;
            }
        }
        for record in self.records(VOLUMES)? {
            for (disk, sharing) in record.disks() {
                self.make_group(disk.subvol_id)?;
                self.limit_disk(disk, sharing)?;
            }
        }
        // What can't be deleted now (it is being sent, say) stops nobody: reap_trash tries and reports it.
        drop(self.delete_doomed()?);
        self.renew_allowances()?;
        btrfs::remove_stale_qgroups(&self.root)?;
        self.commit()
    }

    /// Puts a volume of `tmp/` in place whose subvolumes were all made before the crash; false if it isn't one.
    fn complete(&self, name: &str) -> Result<bool> {
        let path = format!("{TMP}/{name}");
        let mut record: VolumeRecord = match self.read_record(&path) {
            Ok(Some(record)) => record,
            Ok(None) | Err(PoolError::Meta { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if record.unfinished || !name.starts_with("new.") {
            return Ok(false);
        }
        for (disk, sharing) in record.volume.disks.iter_mut().zip(&mut record.sharing) {
            let Some(subvolume) = self.open_dir(&format!("{path}/{}/{SUBVOLUME}", disk.name))? else {
                return Ok(false);
            };
            if disk.subvol_id == 0 {
                disk.subvol_id = btrfs::subvolume_id(subvolume)?;
                // If its source is gone meanwhile, what was inherited from it is not known any more.
                if let Ok(Some(source)) = self.open_source(&disk.source) {
                    self.inherit(disk, sharing, &source)?;
                }
            }
        }
        self.write_record(&path, &record)?;
        self.rename(&path, &format!("{VOLUMES}/{}", record.volume.uid))
    }
}
