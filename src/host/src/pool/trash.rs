//! The trash: where deleted volumes wait for their deadline.

use super::layout::{TRASH, VOLUMES, check_name};
use super::types::{Reaped, TrashEntry, Volume};
use super::{Pool, PoolError, Result};
use crate::btrfs;

impl Pool {
    /// Moves a volume to the trash until `deadline`, in unix seconds. Does nothing if it is there already. A Spark that
    /// is attached to it keeps running: detach it first.
    ///
    /// # Errors
    /// [`PoolError::NoVolume`] if there is none, in the trash neither.
    pub fn trash_volume(&self, uid: &str, deadline: u64) -> Result<()> {
        check_name("volume", uid)?;
        if self.find_trashed(uid)?.is_some() {
            return Ok(());
        }
        self.existing(uid)?;
        self.rename(&format!("{VOLUMES}/{uid}"), &format!("{TRASH}/{uid}.{deadline}"))?;
        self.commit()
    }

    /// Takes a volume out of the trash.
    ///
    /// # Errors
    /// [`PoolError::NotInTrash`] if it isn't there.
    pub fn undelete_volume(&self, uid: &str) -> Result<Volume> {
        check_name("volume", uid)?;
        let entry = self.find_trashed(uid)?;
        let entry = entry.ok_or_else(|| PoolError::NotInTrash { uid: uid.to_owned() })?;
        self.rename(&path_of(&entry), &format!("{VOLUMES}/{uid}"))?;
        self.commit()?;
        self.existing(uid)
    }

    /// What is in the trash.
    pub fn trash(&self) -> Result<Vec<TrashEntry>> {
        Ok(self.entries(TRASH)?.iter().filter_map(|name| parse(name)).collect())
    }

    /// Deletes the volumes in the trash whose deadline is at or before `now` (unix seconds), with everything nested in
    /// them, and quota groups that nobody needs any more. What can't be deleted is reported and tried again next time.
    pub fn reap_trash(&self, now: u64) -> Result<Reaped> {
        let mut reaped = Reaped { deleted: Vec::new(), failed: self.delete_doomed()? };
        for entry in self.trash()?.into_iter().filter(|entry| entry.deadline <= now) {
            match self.delete_published(&path_of(&entry)) {
                Ok(()) => reaped.deleted.push(entry.uid),
                Err(error) => reaped.failed.push((entry.uid, error)),
            }
        }
        self.renew_allowances()?;
        btrfs::remove_stale_qgroups(&self.root)?;
        Ok(reaped)
    }

    fn find_trashed(&self, uid: &str) -> Result<Option<TrashEntry>> {
        Ok(self.trash()?.into_iter().find(|entry| entry.uid == uid))
    }
}

fn path_of(entry: &TrashEntry) -> String {
    format!("{TRASH}/{}.{}", entry.uid, entry.deadline)
}

/// Names that this crate did not give are left alone.
fn parse(name: &str) -> Option<TrashEntry> {
    let (uid, deadline) = name.rsplit_once('.')?;
    check_name("volume", uid).ok()?;
    Some(TrashEntry { uid: uid.to_owned(), deadline: deadline.parse().ok()? })
}
