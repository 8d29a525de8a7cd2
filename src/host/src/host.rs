//! The narrow waist between the node agent's reconciler and the machine.
//!
//! Volumes and containers are named by strings: a volume by the UID of its Kubernetes object, a container by the ID
//! the runtime gave it (without the `containerd://` prefix). No file descriptor crosses the waist, the guest's control
//! socket excepted, so that [`FakeHost`](crate::FakeHost) can stand in for a machine.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::attach::{AttachError, AttachReport, HostFile};
use crate::container::ContainerError;
use crate::copy::{CopyError, CopyReport};
use crate::pool::{
    CreatedVolume, DiskUsage, Image, PoolError, PoolStats, Reaped, TrashEntry, Volume, VolumeRequest,
};

/// Why an operation of a [`Host`] failed. The variants keep their source's type, so that a caller can match on, say,
/// `HostError::Pool(PoolError::Full { .. })` or `HostError::Attach(AttachError::UnsafeRoot { .. })`.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A volume, an image or the pool's filesystem.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Finding a container or talking to it.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Making a volume the root of a container.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Copying an image's files.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Where an image's files are: a directory as a running container sees it (an OCI image volume of an import pod).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The container that has the image mounted.
    pub container_id: String,
    /// Absolute path of the mount inside that container.
    pub path: PathBuf,
}

/// What one attach does to one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The volume whose disks are attached.
    pub volume_uid: String,
    /// The disk that becomes `/`.
    pub root_disk: String,
    /// Further disks of the same volume, each at a path of the tenant's choosing.
    pub mounts: Vec<DiskMount>,
    /// Files of the pod that are shown in `/etc`: `hosts`, `hostname`, `resolv.conf`.
    pub files: Vec<HostFile>,
    /// Host name to set in the pod's UTS namespace.
    pub hostname: Option<String>,
}

/// A disk of the attached volume at a path inside its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskMount {
    /// Name of the disk in the volume.
    pub disk: String,
    /// Absolute mount path inside the root, as the tenant gave it (checked at attach).
    pub path: String,
    /// Mount it read-only.
    pub read_only: bool,
}

/// The disk that a container stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// UID of the volume.
    pub volume_uid: String,
    /// Name of the disk.
    pub disk: String,
}

/// Volumes, images and trash of this node's pool. See [`Pool`](crate::pool::Pool) for what each call promises.
pub trait Volumes: Send + Sync {
    /// Creates all disks of a volume, or returns the volume if it is there.
    fn create_volume(&self, request: &VolumeRequest) -> Result<CreatedVolume, HostError>;
    /// All volumes that are not in the trash.
    fn volumes(&self) -> Result<Vec<Volume>, HostError>;
    /// Sets the limit of a disk in bytes; `None` lifts it.
    fn set_limit(&self, uid: &str, disk: &str, limit_bytes: Option<u64>) -> Result<(), HostError>;
    /// What each disk of a volume uses, in bytes, as of btrfs's last commit (at most 30 s ago).
    fn usage(&self, uid: &str) -> Result<Vec<DiskUsage>, HostError>;
    /// Moves a volume to the trash until `deadline` (unix seconds). Does nothing if it is there already.
    fn trash_volume(&self, uid: &str, deadline: u64) -> Result<(), HostError>;
    /// Takes a volume out of the trash again.
    fn undelete_volume(&self, uid: &str) -> Result<Volume, HostError>;
    /// What is in the trash.
    fn trash(&self) -> Result<Vec<TrashEntry>, HostError>;
    /// Deletes what is in the trash past its deadline; `now` is in unix seconds.
    fn reap_trash(&self, now: u64) -> Result<Reaped, HostError>;
    /// Size and free space of the pool.
    fn stats(&self) -> Result<PoolStats, HostError>;
    /// All images that are fully imported.
    fn images(&self) -> Result<Vec<Image>, HostError>;
    /// Copies an image out of a container, or does nothing (`None`) if the pool has it. `meta` is kept as it is.
    fn import_image(
        &self,
        key: &str,
        source: &ImageSource,
        meta: serde_json::Value,
    ) -> Result<Option<CopyReport>, HostError>;
    /// Deletes an image. Volumes made from it are not touched. Does nothing if there is none.
    fn remove_image(&self, key: &str) -> Result<(), HostError>;
}

/// Called when a root that was replaced has gone; dropped when none will be.
pub type Cleared = Box<dyn FnOnce() + Send>;

/// The containers of this node.
pub trait Containers: Send + Sync {
    /// Makes the disks of a volume the root and the mounts of a running container; also replaces a root in place.
    /// `cleared` is called once the old root is no longer mounted, soon after this returns; until then a process that is
    /// started in the container from outside may find itself in it.
    fn attach(
        &self,
        container_id: &str,
        request: &AttachRequest,
        cleared: Cleared,
    ) -> Result<AttachReport, HostError>;
    /// The disk of this pool that the container stands in; `None` while it stands in its image.
    fn attached_disk(&self, container_id: &str) -> Result<Option<AttachedDisk>, HostError>;
    /// Waits until the container's init process is gone; false if it is still there after `timeout`. A container that
    /// can't be found is gone.
    fn wait_gone(&self, container_id: &str, timeout: Duration) -> Result<bool, HostError>;
    /// Connects to the abstract Unix socket `name` in the container's network namespace, and returns the stream only
    /// if the container's init process is what listens there.
    fn connect(&self, container_id: &str, name: &str) -> Result<UnixStream, HostError>;
    /// Reads a small file (at most 1 MiB) of the container's present root; `None` if there is none. No symbolic link
    /// is followed.
    fn read_file(&self, container_id: &str, path: &str) -> Result<Option<Vec<u8>>, HostError>;
}

/// A node: [`Volumes`] and [`Containers`].
pub trait Host: Volumes + Containers {}

impl<T: Volumes + Containers> Host for T {}
