//! One node's pool of volumes and images: a directory layout on a btrfs.
//!
//! ```text
//! images/<key>/fs               read-only subvolume
//! volumes/<uid>/<disk>/fs       subvolume
//! trash/<uid>.<deadline>/…      a deleted volume; deadline in unix seconds
//! tmp/                          new.*: under construction; gone.*: being deleted
//! ```
//!
//! What is known about an image or a volume is JSON in an extended attribute of its directory
//! (`getfattr -n trusted.sparks.volume --only-values …`): unlike a file's contents, an attribute is in the very
//! transaction in which it was set, without an fsync. A disk's subvolume has a directory of its own because btrfs holds
//! the lock of the directory while it commits a snapshot: side by side, two disks can share one transaction.
//!
//! **Atomic.** A volume or image is built in `tmp/` and renamed into place, so what is in `volumes/` and `images/` is
//! whole. Nothing outside `tmp/` is ever deleted: a reaped volume is moved there first.
//!
//! **Idempotent.** Creating what exists returns what exists.
//!
//! **Durable.** When a call that changes the layout returns, the change survives a crash, also for a tenant that
//! fsyncs at once. A snapshot is committed when it is made, but the rename after it waits for the next commit (up to
//! 30 s), and an fsync writes only the log tree of its own subvolume. So a crash can leave a volume in `tmp/` that
//! somebody has written to. The attribute is set before the snapshots and so committed with them; when the pool is
//! opened, a volume in `tmp/` with all its disks is put in place, and only a partial one is deleted. That spares a second
//! commit, half of the time of a fork. Other calls end with a commit ([`crate::btrfs::commit`]), which does not write
//! out other tenants' dirty data.
//!
//! **Limits.** Disk `<id>` is the one subvolume in the quota group `1/<id>` at first; what its tenant nests in it joins
//! by itself. Limits are stored with the volume and put in force again when the pool is opened.
//!
//! The directories are root's with mode 0700: tenants reach their subvolumes only through their own mounts.

mod images;
mod layout;
mod limits;
mod loop_device;
mod recover;
mod source;
mod trash;
mod types;
mod volumes;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use images::ImageBuilder;
pub use types::{
    CreateTimings, CreatedVolume, Disk, DiskSource, DiskSpec, DiskUsage, Image, PoolSource, PoolStats,
    Reaped, TrashEntry, Volume, VolumeRequest,
};

use crate::btrfs::{self, BtrfsError};

/// Why a call on the pool failed.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A name that could leave its directory or confuse the layout.
    #[error(
        "{name:?} can't name a {what}: use 1 to 128 of a-z, 0-9, dot and hyphen, without two dots in a row"
    )]
    InvalidName {
        /// What it should name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A volume without disks, or with two of one name.
    #[error("volume {uid} needs at least one disk, and names of its disks that differ")]
    BadDisks {
        /// The volume.
        uid: String,
    },
    /// Less is free than the reserve that keeps running Sparks alive.
    #[error(
        "the pool is full: {free} bytes free, {reserve} are reserved; delete Sparks or checkpoints, or grow the pool"
    )]
    Full {
        /// Bytes that can still be written.
        free: u64,
        /// The reserve in bytes.
        reserve: u64,
    },
    /// No such volume here.
    #[error("volume {uid} is not in this node's pool")]
    NoVolume {
        /// The volume.
        uid: String,
    },
    /// No such disk in the volume.
    #[error("volume {uid} has no disk {disk:?}")]
    NoDisk {
        /// The volume.
        uid: String,
        /// The disk.
        disk: String,
    },
    /// No such image here.
    #[error("image {key} is not in this node's pool; import it first")]
    NoImage {
        /// Key of the image.
        key: String,
    },
    /// The volume is in the trash.
    #[error("volume {uid} is in the trash; undelete it first")]
    InTrash {
        /// The volume.
        uid: String,
    },
    /// The volume is not in the trash (any more).
    #[error("volume {uid} is not in the trash; its retention may be over")]
    NotInTrash {
        /// The volume.
        uid: String,
    },
    /// A tenant made so many subvolumes that a snapshot of them all would hold up the other tenants: each is a commit.
    #[error(
        "a source of volume {uid} has {found} nested subvolumes, more than {max}; delete some of them first"
    )]
    TooManyNested {
        /// The volume that was to be made.
        uid: String,
        /// How many there are.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// A limit that would stop the disk at once.
    #[error("disk {disk:?} of volume {uid} uses {used} bytes of its own; a limit of {limit} is below that")]
    LimitBelowUsage {
        /// The volume.
        uid: String,
        /// The disk.
        disk: String,
        /// The limit asked for, in bytes.
        limit: u64,
        /// What it uses, in bytes.
        used: u64,
    },
    /// A device or file with something on it that is no btrfs.
    #[error(
        "{path} holds data but no btrfs; it is left alone. To give it to the pool, clear it with wipefs -a"
    )]
    ForeignData {
        /// The device or file.
        path: PathBuf,
    },
    /// A directory that should be on a btrfs.
    #[error("{path} is not on a btrfs; mount one there, or use a device or a loop file")]
    NotBtrfs {
        /// The directory.
        path: PathBuf,
    },
    /// Something else is mounted where the pool belongs.
    #[error("another filesystem is mounted at {path}; unmount it or choose another mount point")]
    MountPointInUse {
        /// The mount point.
        path: PathBuf,
    },
    /// Another process has the pool.
    #[error("another process uses the pool at {path}; only one node agent may run")]
    Locked {
        /// The pool's directory.
        path: PathBuf,
    },
    /// mkfs.btrfs failed.
    #[error("mkfs.btrfs {path} failed: {output}")]
    Mkfs {
        /// The device or file.
        path: PathBuf,
        /// What it said.
        output: String,
    },
    /// What is stored with a volume or an image can't be read.
    #[error(
        "the attribute {attribute} of {path} is damaged ({source}); mend it with setfattr, or move {path} away"
    )]
    Meta {
        /// The directory, relative to the pool.
        path: String,
        /// Name of the extended attribute.
        attribute: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// btrfs refused.
    #[error(transparent)]
    Btrfs(#[from] BtrfsError),
    /// A system call failed.
    #[error("pool: cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory, relative to the pool where it is in there.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl PoolError {
    fn io<E: Into<std::io::Error>>(action: &'static str, path: impl Into<String>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| Self::Io { action, path, source: error.into() }
    }
}

type Result<T, E = PoolError> = std::result::Result<T, E>;

/// One node's pool. There is at most one `Pool` per directory on a machine: it holds a lock.
#[derive(Debug)]
pub struct Pool {
    root: OwnedFd,
    path: PathBuf,
    reserve_bytes: u64,
    /// Held while what is stored with a volume is changed.
    records: Mutex<()>,
}

impl Pool {
    /// Opens a pool, and makes, formats, attaches and mounts what is missing. A second call with the same arguments
    /// finds everything done. Simple quotas are turned on, what a crash left is completed or deleted, and limits are put in
    /// force.
    ///
    /// `mount_point` is made if it isn't there; it is not used for [`PoolSource::Path`]. New volumes are refused while
    /// less than `reserve_bytes` is free.
    ///
    /// # Errors
    /// [`PoolError::ForeignData`], [`PoolError::NotBtrfs`], [`PoolError::MountPointInUse`], [`PoolError::Locked`] tell
    /// what stands in the way.
    pub fn open(source: &PoolSource, mount_point: &Path, reserve_bytes: u64) -> Result<Self> {
        let path = source::mount(source, mount_point)?;
        let display = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(PoolError::io("open", display.clone()))?;
        if !btrfs::is_btrfs(&root) {
            return Err(PoolError::NotBtrfs { path });
        }
        match rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(PoolError::Locked { path }),
            Err(error) => return Err(PoolError::io("lock", display)(error)),
        }
        let pool = Self { root, path, reserve_bytes, records: Mutex::default() };
        pool.recover()?;
        Ok(pool)
    }

    /// The pool's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size and free space.
    pub fn stats(&self) -> Result<PoolStats> {
        let space = btrfs::space(&self.root)?;
        Ok(PoolStats { size_bytes: space.size, free_bytes: space.free, reserve_bytes: self.reserve_bytes })
    }

    /// # Errors
    /// [`PoolError::Full`] if less than the reserve is free.
    fn check_headroom(&self) -> Result<()> {
        let PoolStats { free_bytes: free, reserve_bytes: reserve, .. } = self.stats()?;
        if free < reserve { Err(PoolError::Full { free, reserve }) } else { Ok(()) }
    }

    fn lock_records(&self) -> MutexGuard<'_, ()> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything done so far survive a crash.
    fn commit(&self) -> Result<()> {
        Ok(btrfs::commit(self.root.as_fd())?)
    }
}
