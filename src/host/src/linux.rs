//! The real [`Host`](crate::Host): a [`Pool`] and the containers of this machine.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::attach::{self, AttachPlan, AttachReport, MountPath, PlannedMount};
use crate::container::{Container, ContainerError};
use crate::copy::{self, CopyReport};
use crate::host::{AttachRequest, AttachedDisk, Cleared, Containers, HostError, ImageSource, Volumes};
use crate::pool::{
    CreatedVolume, DiskUsage, Image, Pool, PoolStats, Reaped, TrashEntry, Volume, VolumeRequest,
};

/// What is read from a container at most.
const MAX_FILE: u64 = 1 << 20;

/// This machine.
pub struct LinuxHost {
    pool: Pool,
    /// Containers that were found already: to look through all of /proc takes longer than to attach.
    containers: Mutex<HashMap<String, Arc<Container>>>,
}

impl LinuxHost {
    /// A host with an open pool.
    pub fn new(pool: Pool) -> Self {
        Self { pool, containers: Mutex::default() }
    }

    /// The pool, for what the traits leave out (`btrfs send`).
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, ContainerError> {
        let known = self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(container) = known.filter(|container| container.is_alive()) {
            return Ok(container);
        }
        let found = Arc::new(Container::find(id)?);
        let mut known = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, container| container.is_alive());
        known.insert(id.to_owned(), Arc::clone(&found));
        Ok(found)
    }
}

impl Volumes for LinuxHost {
    fn create_volume(&self, request: &VolumeRequest) -> Result<CreatedVolume, HostError> {
        Ok(self.pool.create_volume(request)?)
    }

    fn volumes(&self) -> Result<Vec<Volume>, HostError> {
        Ok(self.pool.volumes()?)
    }

    fn set_limit(&self, uid: &str, disk: &str, limit_bytes: Option<u64>) -> Result<(), HostError> {
        Ok(self.pool.set_limit(uid, disk, limit_bytes)?)
    }

    fn usage(&self, uid: &str) -> Result<Vec<DiskUsage>, HostError> {
        Ok(self.pool.usage(uid)?)
    }

    fn trash_volume(&self, uid: &str, deadline: u64) -> Result<(), HostError> {
        Ok(self.pool.trash_volume(uid, deadline)?)
    }

    fn undelete_volume(&self, uid: &str) -> Result<Volume, HostError> {
        Ok(self.pool.undelete_volume(uid)?)
    }

    fn trash(&self) -> Result<Vec<TrashEntry>, HostError> {
        Ok(self.pool.trash()?)
    }

    fn reap_trash(&self, now: u64) -> Result<Reaped, HostError> {
        Ok(self.pool.reap_trash(now)?)
    }

    fn stats(&self) -> Result<PoolStats, HostError> {
        Ok(self.pool.stats()?)
    }

    fn images(&self) -> Result<Vec<Image>, HostError> {
        Ok(self.pool.images()?)
    }

    fn import_image(
        &self,
        key: &str,
        source: &ImageSource,
        meta: serde_json::Value,
    ) -> Result<Option<CopyReport>, HostError> {
        if self.pool.image(key)?.is_some() {
            return Ok(None);
        }
        let container = self.container(&source.container_id)?;
        let directory = container.open_dir(&source.path.to_string_lossy())?;
        let image = self.pool.begin_image(key)?;
        let report = copy::copy_tree(directory, image.root(), &container.id_map()?)?;
        image.commit(meta)?;
        Ok(Some(report))
    }

    fn remove_image(&self, key: &str) -> Result<(), HostError> {
        Ok(self.pool.remove_image(key)?)
    }
}

impl Containers for LinuxHost {
    fn attach(
        &self,
        container_id: &str,
        request: &AttachRequest,
        cleared: Cleared,
    ) -> Result<AttachReport, HostError> {
        let open = |disk: &str| self.pool.open_disk(&request.volume_uid, disk);
        let root = open(&request.root_disk)?;
        let disks = request.mounts.iter().map(|mount| {
            let path = MountPath::parse(&mount.path)?;
            Ok((open(&mount.disk)?, path, mount.read_only))
        });
        let disks: Vec<(OwnedFd, MountPath, bool)> = disks.collect::<Result<_, HostError>>()?;
        let mounts = disks.iter().map(|(disk, path, read_only)| PlannedMount {
            disk: disk.as_fd(),
            path: path.clone(),
            read_only: *read_only,
        });
        let plan = AttachPlan {
            root: root.as_fd(),
            mounts: mounts.collect(),
            files: request.files.clone(),
            hostname: request.hostname.clone(),
        };
        let container = self.container(container_id)?;
        Ok(attach::attach(&container, &plan, cleared)?)
    }

    fn attached_disk(&self, container_id: &str) -> Result<Option<AttachedDisk>, HostError> {
        let Some(subvolume) = self.container(container_id)?.root_subvolume()? else { return Ok(None) };
        let found = self.pool.find_disk(subvolume)?;
        Ok(found.map(|(volume, disk)| AttachedDisk { volume_uid: volume.uid, disk: disk.name }))
    }

    fn wait_gone(&self, container_id: &str, timeout: Duration) -> Result<bool, HostError> {
        match self.container(container_id) {
            Ok(container) => Ok(container.wait_gone(timeout)?),
            Err(ContainerError::NotFound(_) | ContainerError::Gone(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn connect(&self, container_id: &str, name: &str) -> Result<UnixStream, HostError> {
        Ok(self.container(container_id)?.connect_abstract(name)?)
    }

    fn read_file(&self, container_id: &str, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.container(container_id)?.read_file(path, MAX_FILE)?)
    }
}
