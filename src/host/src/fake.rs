//! A [`Host`](crate::Host) in memory, for tests of what stands on it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crate::attach::AttachReport;
use crate::container::ContainerError;
use crate::copy::CopyReport;
use crate::host::{AttachRequest, AttachedDisk, Cleared, Containers, HostError, ImageSource, Volumes};
use crate::pool::{
    CreateTimings, CreatedVolume, Disk, DiskSource, DiskUsage, Image, PoolError, PoolStats, Reaped,
    TrashEntry, Volume, VolumeRequest,
};

/// The operations that a [`FakeHost`] can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    CreateVolume,
    SetLimit,
    Usage,
    TrashVolume,
    UndeleteVolume,
    ReapTrash,
    Stats,
    ImportImage,
    RemoveImage,
    Attach,
    AttachedDisk,
    WaitGone,
    Connect,
    ReadFile,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<String, Volume>,
    trash: BTreeMap<String, (u64, Volume)>,
    images: BTreeMap<String, Image>,
    containers: HashMap<String, FakeContainer>,
    failures: HashMap<Operation, Vec<HostError>>,
    stats: Option<PoolStats>,
    usage: HashMap<(String, String), u64>,
    next_subvolume: u64,
    kept: Option<mpsc::Sender<Cleared>>,
}

#[derive(Debug, Default)]
struct FakeContainer {
    attached: Vec<AttachRequest>,
    files: HashMap<String, Vec<u8>>,
    listeners: HashMap<String, Vec<UnixStream>>,
}

/// A node in memory. It starts empty; containers are added by [`add_container`](Self::add_container).
#[derive(Debug, Default)]
pub struct FakeHost {
    state: Mutex<State>,
}

impl FakeHost {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state, unless the operation was told to fail.
    fn begin(&self, operation: Operation) -> Result<MutexGuard<'_, State>, HostError> {
        let mut state = self.state();
        match state.failures.get_mut(&operation).and_then(Vec::pop) {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    /// Makes the next call of an operation fail. Called twice, the later error comes first.
    pub fn fail_next(&self, operation: Operation, error: HostError) {
        self.state().failures.entry(operation).or_default().push(error);
    }

    /// Starts a container with these files.
    pub fn add_container(&self, id: &str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(path, contents)| ((*path).to_owned(), contents.to_vec())).collect();
        let container = FakeContainer { files, ..FakeContainer::default() };
        self.state().containers.insert(id.to_owned(), container);
    }

    /// Ends a container.
    pub fn remove_container(&self, id: &str) {
        self.state().containers.remove(id);
    }

    /// Keeps every root that an attach replaces from now on: what comes out of the channel takes one away.
    pub fn keep_old_roots(&self) -> mpsc::Receiver<Cleared> {
        let (kept, old_roots) = mpsc::channel();
        self.state().kept = Some(kept);
        old_roots
    }

    /// Every attach of a container so far.
    pub fn attaches(&self, container_id: &str) -> Vec<AttachRequest> {
        self.state().containers.get(container_id).map(|it| it.attached.clone()).unwrap_or_default()
    }

    /// The container's ends of the connections to one of its sockets, oldest first; each is handed out once.
    pub fn accepted(&self, container_id: &str, name: &str) -> Vec<UnixStream> {
        let mut state = self.state();
        let listeners = state.containers.get_mut(container_id).map(|it| &mut it.listeners);
        listeners.and_then(|listeners| listeners.remove(name)).unwrap_or_default()
    }

    /// Sets what a disk wrote since its birth, in bytes.
    pub fn set_usage(&self, uid: &str, disk: &str, exclusive_bytes: u64) {
        self.state().usage.insert((uid.to_owned(), disk.to_owned()), exclusive_bytes);
    }

    /// Sets the size of the pool; volumes are refused below the reserve.
    pub fn set_stats(&self, stats: PoolStats) {
        self.state().stats = Some(stats);
    }
}

impl State {
    fn stats(&self) -> PoolStats {
        self.stats.unwrap_or(PoolStats { size_bytes: 1 << 40, free_bytes: 1 << 39, reserve_bytes: 1 << 30 })
    }

    fn volume(&self, uid: &str) -> Result<&Volume, PoolError> {
        self.volumes.get(uid).ok_or_else(|| PoolError::NoVolume { uid: uid.to_owned() })
    }

    fn container(&mut self, id: &str) -> Result<&mut FakeContainer, ContainerError> {
        self.containers.get_mut(id).ok_or_else(|| ContainerError::NotFound(id.to_owned()))
    }

    fn exclusive(&self, uid: &str, disk: &str) -> u64 {
        self.usage.get(&(uid.to_owned(), disk.to_owned())).copied().unwrap_or_default()
    }

    /// What a new disk of this source inherits.
    fn inherited(&self, source: &DiskSource) -> Result<u64, PoolError> {
        match source {
            DiskSource::Empty => Ok(0),
            DiskSource::Image { key } if self.images.contains_key(key) => Ok(0),
            DiskSource::Image { key } => Err(PoolError::NoImage { key: key.clone() }),
            DiskSource::Volume { uid, disk } => {
                let missing = || PoolError::NoDisk { uid: uid.clone(), disk: disk.clone() };
                let known = self.volume(uid)?.disk(disk).ok_or_else(missing)?;
                Ok(known.inherited_bytes + self.exclusive(uid, disk))
            }
        }
    }

    fn next_subvolume(&mut self) -> u64 {
        self.next_subvolume += 1;
        255 + self.next_subvolume
    }
}

impl Volumes for FakeHost {
    fn create_volume(&self, request: &VolumeRequest) -> Result<CreatedVolume, HostError> {
        let mut state = self.begin(Operation::CreateVolume)?;
        let timings = CreateTimings::default();
        if let Some(volume) = state.volumes.get(&request.uid) {
            return Ok(CreatedVolume { volume: volume.clone(), created: false, timings });
        }
        if state.trash.contains_key(&request.uid) {
            return Err(PoolError::InTrash { uid: request.uid.clone() }.into());
        }
        let PoolStats { free_bytes: free, reserve_bytes: reserve, .. } = state.stats();
        if free < reserve {
            return Err(PoolError::Full { free, reserve }.into());
        }
        let mut disks = Vec::new();
        for spec in &request.disks {
            disks.push(Disk {
                name: spec.name.clone(),
                subvol_id: state.next_subvolume(),
                limit_bytes: spec.limit_bytes,
                read_only: spec.read_only,
                source: spec.source.clone(),
                inherited_bytes: state.inherited(&spec.source)?,
            });
        }
        let volume = Volume { uid: request.uid.clone(), disks, meta: request.meta.clone() };
        state.volumes.insert(request.uid.clone(), volume.clone());
        Ok(CreatedVolume { volume, created: true, timings })
    }

    fn volumes(&self) -> Result<Vec<Volume>, HostError> {
        Ok(self.state().volumes.values().cloned().collect())
    }

    fn set_limit(&self, uid: &str, disk: &str, limit_bytes: Option<u64>) -> Result<(), HostError> {
        let mut state = self.begin(Operation::SetLimit)?;
        let used = state.exclusive(uid, disk);
        let (uid, disk) = (uid.to_owned(), disk.to_owned());
        if let Some(limit) = limit_bytes.filter(|limit| *limit < used) {
            return Err(PoolError::LimitBelowUsage { uid, disk, limit, used }.into());
        }
        let volume = state.volumes.get_mut(&uid).ok_or(PoolError::NoVolume { uid: uid.clone() })?;
        let known = volume.disks.iter_mut().find(|known| known.name == disk);
        known.ok_or(PoolError::NoDisk { uid, disk })?.limit_bytes = limit_bytes;
        Ok(())
    }

    fn usage(&self, uid: &str) -> Result<Vec<DiskUsage>, HostError> {
        let state = self.begin(Operation::Usage)?;
        let usage = |disk: &Disk| {
            let exclusive_bytes = state.exclusive(uid, &disk.name);
            DiskUsage {
                disk: disk.name.clone(),
                referenced_bytes: disk.inherited_bytes + exclusive_bytes,
                exclusive_bytes,
                limit_bytes: disk.limit_bytes,
            }
        };
        Ok(state.volume(uid)?.disks.iter().map(usage).collect())
    }

    fn trash_volume(&self, uid: &str, deadline: u64) -> Result<(), HostError> {
        let mut state = self.begin(Operation::TrashVolume)?;
        if state.trash.contains_key(uid) {
            return Ok(());
        }
        let volume = state.volume(uid)?.clone();
        state.volumes.remove(uid);
        state.trash.insert(uid.to_owned(), (deadline, volume));
        Ok(())
    }

    fn undelete_volume(&self, uid: &str) -> Result<Volume, HostError> {
        let mut state = self.begin(Operation::UndeleteVolume)?;
        let (_, volume) =
            state.trash.remove(uid).ok_or_else(|| PoolError::NotInTrash { uid: uid.to_owned() })?;
        state.volumes.insert(uid.to_owned(), volume.clone());
        Ok(volume)
    }

    fn trash(&self) -> Result<Vec<TrashEntry>, HostError> {
        let state = self.state();
        let entry =
            |(uid, (deadline, _)): (&String, &(u64, _))| TrashEntry { uid: uid.clone(), deadline: *deadline };
        Ok(state.trash.iter().map(entry).collect())
    }

    fn reap_trash(&self, now: u64) -> Result<Reaped, HostError> {
        let mut state = self.begin(Operation::ReapTrash)?;
        let due = state.trash.iter().filter(|(_, (deadline, _))| *deadline <= now);
        let deleted: Vec<String> = due.map(|(uid, _)| uid.clone()).collect();
        state.trash.retain(|uid, _| !deleted.contains(uid));
        Ok(Reaped { deleted, failed: Vec::new() })
    }

    fn stats(&self) -> Result<PoolStats, HostError> {
        Ok(self.begin(Operation::Stats)?.stats())
    }

    fn images(&self) -> Result<Vec<Image>, HostError> {
        Ok(self.state().images.values().cloned().collect())
    }

    fn import_image(
        &self,
        key: &str,
        source: &ImageSource,
        meta: serde_json::Value,
    ) -> Result<Option<CopyReport>, HostError> {
        let mut state = self.begin(Operation::ImportImage)?;
        if state.images.contains_key(key) {
            return Ok(None);
        }
        state.container(&source.container_id)?;
        let image = Image { key: key.to_owned(), subvol_id: state.next_subvolume(), meta };
        state.images.insert(key.to_owned(), image);
        Ok(Some(CopyReport::default()))
    }

    fn remove_image(&self, key: &str) -> Result<(), HostError> {
        self.begin(Operation::RemoveImage)?.images.remove(key);
        Ok(())
    }
}

impl Containers for FakeHost {
    fn attach(
        &self,
        container_id: &str,
        request: &AttachRequest,
        cleared: Cleared,
    ) -> Result<AttachReport, HostError> {
        let mut state = self.begin(Operation::Attach)?;
        let volume = state.volume(&request.volume_uid)?;
        let disks = request.mounts.iter().map(|mount| &mount.disk).chain([&request.root_disk]);
        for disk in disks {
            let (uid, disk) = (request.volume_uid.clone(), disk.clone());
            volume.disk(&disk).ok_or(PoolError::NoDisk { uid, disk })?;
        }
        state.container(container_id)?.attached.push(request.clone());
        match &state.kept {
            Some(kept) => drop(kept.send(cleared)),
            None => cleared(),
        }
        Ok(AttachReport::default())
    }

    fn attached_disk(&self, container_id: &str) -> Result<Option<AttachedDisk>, HostError> {
        let mut state = self.begin(Operation::AttachedDisk)?;
        let last = state.container(container_id)?.attached.last();
        Ok(last.map(|request| AttachedDisk {
            volume_uid: request.volume_uid.clone(),
            disk: request.root_disk.clone(),
        }))
    }

    fn wait_gone(&self, container_id: &str, _timeout: Duration) -> Result<bool, HostError> {
        Ok(!self.begin(Operation::WaitGone)?.containers.contains_key(container_id))
    }

    fn connect(&self, container_id: &str, name: &str) -> Result<UnixStream, HostError> {
        let mut state = self.begin(Operation::Connect)?;
        let (ours, theirs) = UnixStream::pair().map_err(|source| ContainerError::System {
            id: container_id.to_owned(),
            action: "make a pair of sockets",
            source,
        })?;
        state.container(container_id)?.listeners.entry(name.to_owned()).or_default().push(theirs);
        Ok(ours)
    }

    fn read_file(&self, container_id: &str, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        let mut state = self.begin(Operation::ReadFile)?;
        Ok(state.container(container_id)?.files.get(path).cloned())
    }
}
