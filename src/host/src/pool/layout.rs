//! Names, directories and records: how the pool lies on disk.
//!
//! Everything above a disk's top directory is made by this crate and reachable by root only, so plain `openat` by
//! checked names is enough here.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{Disk, Image, Volume};
use super::{Pool, PoolError, Result};
use crate::btrfs::{self, SubvolumeId};

pub(super) const IMAGES: &str = "images";
pub(super) const VOLUMES: &str = "volumes";
pub(super) const TRASH: &str = "trash";
pub(super) const TMP: &str = "tmp";
/// Name of a subvolume in its directory.
pub(super) const SUBVOLUME: &str = "fs";

/// What is stored with a directory of the pool, as JSON in an extended attribute.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// Name of the attribute.
    const ATTRIBUTE: &'static str;
}

impl Record for Image {
    const ATTRIBUTE: &'static str = "trusted.sparks.image";
}

/// A volume, in place or under construction.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    pub volume: Volume,
    /// There is more to do than make the subvolumes (copy nested ones): after a crash it can't be told how far it got.
    pub unfinished: bool,
    /// Per disk, in the order of the volume's disks.
    pub sharing: Vec<Sharing>,
}

/// Which blocks a disk may share with which, because simple quotas charge them to one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sharing {
    /// What comes on top of the disk's limit because living forks and checkpoints may hold that much of what it wrote.
    pub allowance_bytes: u64,
    /// The disks whose blocks it may hold: its source first, then the source's sources.
    pub holds: Vec<Hold>,
}

/// What a fork may hold of a disk it descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    pub subvol_id: SubvolumeId,
    /// All that was charged to the disk when the fork was made.
    pub bytes: u64,
}

impl Record for VolumeRecord {
    const ATTRIBUTE: &'static str = "trusted.sparks.volume";
}

impl VolumeRecord {
    pub(super) fn disks(&self) -> impl Iterator<Item = (&Disk, &Sharing)> {
        self.volume.disks.iter().zip(&self.sharing)
    }
}

/// Checks the name of a volume, an image or a disk.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let ok = (1..=128).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.contains("..")
        && !name.starts_with('.');
    if ok { Ok(()) } else { Err(PoolError::InvalidName { what, name: name.to_owned() }) }
}

/// A directory in `tmp/` that is deleted when it is dropped without having been moved into place.
pub(super) struct Temporary<'pool> {
    pool: &'pool Pool,
    name: String,
    directory: OwnedFd,
}

impl Temporary<'_> {
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Makes a directory for a subvolume.
    pub(super) fn make_dir(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("{TMP}/{}/{name}", self.name);
        self.pool.make_dir(&path)
    }

    pub(super) fn write_record<T: Record>(&self, record: &T) -> Result<()> {
        self.pool.write_record(&format!("{TMP}/{}", self.name), record)
    }

    /// Renames it into place; false (and it is deleted) if somebody else was first.
    pub(super) fn publish(mut self, place: &str) -> Result<bool> {
        let from = format!("{TMP}/{}", self.name);
        if !self.pool.rename(&from, place)? {
            return Ok(false);
        }
        self.name.clear();
        Ok(true)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What can't be deleted now is when the pool is opened next.
            drop(self.pool.delete_temporary(&self.name));
        }
    }
}

impl Pool {
    pub(super) fn make_directories(&self) -> Result<()> {
        for name in [IMAGES, VOLUMES, TRASH, TMP] {
            match rustix::fs::mkdirat(&self.root, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(PoolError::io("make", name)(error)),
            }
        }
        Ok(())
    }

    /// Opens a directory by its path below the pool; `None` if there is none.
    pub(super) fn open_dir(&self, path: &str) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.root, path, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(PoolError::io("open", path)(error)),
        }
    }

    /// Names of the directories in one of the four directories, sorted.
    pub(super) fn entries(&self, path: &str) -> Result<Vec<String>> {
        let Some(directory) = self.open_dir(path)? else { return Ok(Vec::new()) };
        let mut names: Vec<_> =
            list(directory, path)?.into_iter().filter(|(_, is_dir)| *is_dir).map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    /// What is stored with all volumes in `volumes` or `trash`.
    pub(super) fn records(&self, place: &str) -> Result<Vec<VolumeRecord>> {
        let names = self.entries(place)?;
        names.iter().filter_map(|name| self.read_record(&format!("{place}/{name}")).transpose()).collect()
    }

    /// Renames within the pool, never over something; false if the place is taken.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<bool> {
        match rustix::fs::renameat_with(&self.root, from, &self.root, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(PoolError::io("rename", from)(error)),
        }
    }

    pub(super) fn new_temporary(&self, name: &str) -> Result<Temporary<'_>> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!("new.{name}.{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory = self.make_dir(&format!("{TMP}/{name}"))?;
        Ok(Temporary { pool: self, name, directory })
    }

    fn make_dir(&self, path: &str) -> Result<OwnedFd> {
        rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(0o700))
            .map_err(PoolError::io("make", path))?;
        self.open_dir(path)?.ok_or_else(|| PoolError::io("open", path)(Errno::NOENT))
    }

    /// Moves a directory to `tmp/` and deletes it there, so that it is never seen half deleted. The parent directory
    /// in `path` becomes part of the new name, which keeps it unique.
    pub(super) fn delete_published(&self, path: &str) -> Result<()> {
        let doomed = format!("gone.{}", path.replace('/', "."));
        if !self.rename(path, &format!("{TMP}/{doomed}"))? {
            // An earlier attempt left its rest there.
            self.delete_temporary(&doomed)?;
            self.rename(path, &format!("{TMP}/{doomed}"))?;
        }
        self.delete_temporary(&doomed)
    }

    /// Marks a directory of `tmp/` as one to delete.
    pub(super) fn doom(&self, name: &str) -> Result<()> {
        if !name.starts_with("gone.") {
            self.rename(&format!("{TMP}/{name}"), &format!("{TMP}/gone.{name}"))?;
        }
        Ok(())
    }

    /// Deletes the rests of deletions that failed earlier; returns what still can't be deleted, and why.
    pub(super) fn delete_doomed(&self) -> Result<Vec<(String, PoolError)>> {
        let doomed = self.entries(TMP)?.into_iter().filter(|name| name.starts_with("gone."));
        Ok(doomed.filter_map(|name| self.delete_temporary(&name).err().map(|error| (name, error))).collect())
    }

    /// Deletes a directory of `tmp/`: its subvolumes with all that is nested in them, the directories around them,
    /// itself.
    pub(super) fn delete_temporary(&self, name: &str) -> Result<()> {
        let path = format!("{TMP}/{name}");
        let Some(directory) = self.open_dir(&path)? else { return Ok(()) };
        for (entry, _) in list(&directory, &path)? {
            if entry == SUBVOLUME {
                btrfs::delete_subvolume(&directory, SUBVOLUME)?;
                continue;
            }
            let disk = format!("{path}/{entry}");
            if self.open_dir(&format!("{disk}/{SUBVOLUME}"))?.is_some() {
                btrfs::delete_subvolume(self.open_dir(&disk)?.as_ref().unwrap_or(&directory), SUBVOLUME)?;
            }
            self.remove_dir(&disk)?;
        }
        self.remove_dir(&path)
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.root, path, AtFlags::REMOVEDIR).map_err(PoolError::io("delete", path))
    }

    /// Reads what is stored with a directory; `None` if the directory isn't there or is none of the pool's.
    pub(super) fn read_record<T: Record>(&self, path: &str) -> Result<Option<T>> {
        let Some(directory) = self.open_dir(path)? else { return Ok(None) };
        let mut value = vec![0; 64 << 10];
        let length = match rustix::fs::fgetxattr(directory, T::ATTRIBUTE, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => return Ok(None),
            Err(error) => return Err(PoolError::io("read what is stored with", path)(error)),
        };
        let parsed = serde_json::from_slice(&value[..length]);
        parsed.map(Some).map_err(|source| meta_error::<T>(path, source))
    }

    /// Replaces what is stored with a directory, at once or not at all.
    pub(super) fn write_record<T: Record>(&self, path: &str, record: &T) -> Result<()> {
        let value = serde_json::to_vec(record).map_err(|source| meta_error::<T>(path, source))?;
        let directory = self.open_dir(path)?.ok_or_else(|| PoolError::io("open", path)(Errno::NOENT))?;
        rustix::fs::fsetxattr(directory, T::ATTRIBUTE, &value, XattrFlags::empty())
            .map_err(PoolError::io("store what is known about", path))
    }
}

fn meta_error<T: Record>(path: &str, source: serde_json::Error) -> PoolError {
    PoolError::Meta { path: path.to_owned(), attribute: T::ATTRIBUTE, source }
}

/// Names in a directory, each with whether it is a directory itself.
fn list(directory: impl AsFd, path: &str) -> Result<Vec<(String, bool)>> {
    let entries = Dir::read_from(directory).map_err(PoolError::io("list", path))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(PoolError::io("list", path))?;
        // Only names that this crate gave: others are nobody's business.
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            found.push((name.to_owned(), entry.file_type() == FileType::Directory));
        }
    }
    Ok(found)
}
