//! What the pool is asked for and what it answers. [`Volume`] and [`Image`] are also what is stored with them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the pool's bytes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolSource {
    /// A sparse file that is attached to a loop device. Made and formatted if it isn't there; grown, never shrunk.
    LoopFile {
        /// The file, on any local filesystem.
        path: PathBuf,
        /// Size in bytes.
        size_bytes: u64,
    },
    /// A block device. Formatted only if it is blank.
    Device {
        /// For example `/dev/disk/by-id/…`.
        path: PathBuf,
    },
    /// A directory on a btrfs that somebody else mounted.
    Path {
        /// The directory.
        path: PathBuf,
    },
}

/// What a disk starts as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DiskSource {
    /// Nothing in it.
    Empty,
    /// A snapshot of an imported image.
    Image {
        /// Key of the image.
        key: String,
    },
    /// A snapshot of a disk of another volume of this pool (a fork, a checkpoint or a restore).
    Volume {
        /// UID of the volume.
        uid: String,
        /// Name of the disk.
        disk: String,
    },
}

/// One disk to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Name of the disk in its volume, for example `root` or `data`; `[a-z0-9.-]{1,128}`.
    pub name: String,
    /// What it starts as.
    pub source: DiskSource,
    /// How many bytes of its own it may hold beyond what it starts with; `None` is no limit.
    pub limit_bytes: Option<u64>,
    /// A checkpoint: nobody can write to it.
    pub read_only: bool,
}

/// One volume to make.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeRequest {
    /// UID of the volume, unique for all time; `[a-z0-9.-]{1,128}`.
    pub uid: String,
    /// Its disks, snapshotted as closely together as btrfs allows.
    pub disks: Vec<DiskSpec>,
    /// Whatever the caller wants to find again; with the disks it has to fit into about 16 KiB of JSON.
    pub meta: serde_json::Value,
}

/// A volume as it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// UID of the volume.
    pub uid: String,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// The caller's own data.
    pub meta: serde_json::Value,
}

impl Volume {
    /// The disk of that name.
    pub fn disk(&self, name: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.name == name)
    }
}

/// A disk as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Name of the disk.
    pub name: String,
    /// btrfs subvolume ID; also the number of its quota group `1/<id>`.
    pub subvol_id: u64,
    /// Limit of the disk's own bytes.
    pub limit_bytes: Option<u64>,
    /// True for a checkpoint.
    pub read_only: bool,
    /// What the disk was made from.
    pub source: DiskSource,
    /// Bytes it shared with its source when it was made.
    pub inherited_bytes: u64,
}

/// What [`create_volume`](crate::pool::Pool::create_volume) did.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedVolume {
    /// The volume.
    pub volume: Volume,
    /// False if it was there already.
    pub created: bool,
    /// How long each step took, in order; empty if nothing was created.
    pub timings: CreateTimings,
}

/// How long the steps of a creation took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTimings {
    /// Per disk, from the start of the snapshots until its own was on disk. Disks are snapshotted at the same time.
    pub snapshots: Vec<(String, Duration)>,
    /// Nested subvolumes, quota groups and limits.
    pub finish: Duration,
    /// The rename, and the commit where one is needed (nested subvolumes, or none but empty disks).
    pub commit: Duration,
    /// All of it.
    pub total: Duration,
}

/// What a disk uses, in bytes.
///
/// With simple quotas a block is charged to the disk that wrote it until nobody holds it any more. So when a disk with
/// a living fork or checkpoint rewrites a file, it is charged for the old and the new one, and would run into its limit
/// because of somebody else. Therefore what was charged at the last such snapshot comes on top of the limit for as long
/// as the snapshot lives (and in the trash), and `exclusive_bytes` can be larger than `limit_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// Name of the disk.
    pub disk: String,
    /// What it shared at birth plus what it wrote since.
    pub referenced_bytes: u64,
    /// What it wrote since its birth and somebody still holds, nested subvolumes included: what the limit is about.
    pub exclusive_bytes: u64,
    /// Its limit.
    pub limit_bytes: Option<u64>,
}

/// An imported image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Key of the image.
    pub key: String,
    /// Subvolume ID of its read-only base.
    pub subvol_id: u64,
    /// The caller's own data.
    pub meta: serde_json::Value,
}

/// A volume in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashEntry {
    /// UID of the volume.
    pub uid: String,
    /// Unix seconds after which it may be deleted.
    pub deadline: u64,
}

/// What [`reap_trash`](crate::pool::Pool::reap_trash) did.
#[derive(Debug, Default)]
pub struct Reaped {
    /// UIDs of the deleted volumes.
    pub deleted: Vec<String>,
    /// What could not be deleted, and why: the UID of a volume, or the name of a directory in `tmp/` that holds the rest
    /// of one. The next call tries again.
    pub failed: Vec<(String, super::PoolError)>,
}

/// Size of the pool's filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Size of the filesystem.
    pub size_bytes: u64,
    /// What can still be written (statfs `f_bavail`).
    pub free_bytes: u64,
    /// New volumes are refused when less than this is free.
    pub reserve_bytes: u64,
}
