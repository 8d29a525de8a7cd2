//! Volumes: create, list, find.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::layout::{Hold, IMAGES, SUBVOLUME, Sharing, Temporary, VOLUMES, VolumeRecord, check_name};
use super::types::{CreateTimings, CreatedVolume, Disk, DiskSource, DiskSpec, Volume, VolumeRequest};
use super::{Pool, PoolError, Result};
use crate::btrfs::{self, Qgroup, SubvolumeId};
use crate::container::RootSubvolume;

/// A disk's source, open.
pub(super) struct OpenSource {
    subvolume: OwnedFd,
    id: SubvolumeId,
    /// The quota group that what it wrote is charged to.
    charged_to: Qgroup,
    /// What it inherited itself.
    inherited: u64,
    holds: Vec<Hold>,
    /// How many subvolumes are nested in it.
    nested: usize,
}

/// How many ancestors of a disk are remembered: more than anybody forks of forks, and few enough for the record.
const MAX_HOLDS: usize = 64;

/// How many nested subvolumes are snapshotted with a volume: at 2 ms each, about a second of commits.
const MAX_NESTED: usize = 500;

impl Pool {
    /// Makes all disks of a volume, or returns the volume if it is there (whatever its disks are). The disks are
    /// snapshotted at the same time, from one thread each, so that they often come from one btrfs transaction, and else
    /// from neighbouring ones. Nested subvolumes come along.
    ///
    /// # Errors
    /// [`PoolError::Full`] below the reserve; [`PoolError::NoVolume`], [`PoolError::NoDisk`] or
    /// [`PoolError::NoImage`] for a source that is not in this pool; [`PoolError::InTrash`] for a UID that is there;
    /// [`PoolError::TooManyNested`] if tenants made more than 500 subvolumes in the sources.
    /// Nothing is left behind after an error.
    pub fn create_volume(&self, request: &VolumeRequest) -> Result<CreatedVolume> {
        let started = Instant::now();
        check_request(request)?;
        if let Some(volume) = self.volume(&request.uid)? {
            return Ok(CreatedVolume { volume, created: false, timings: CreateTimings::default() });
        }
        if self.trash()?.iter().any(|entry| entry.uid == request.uid) {
            return Err(PoolError::InTrash { uid: request.uid.clone() });
        }
        self.check_headroom()?;
        let sources =
            request.disks.iter().map(|disk| self.open_source(&disk.source)).collect::<Result<Vec<_>>>()?;
        let building = self.new_temporary(&request.uid)?;
        let found = sources.iter().flatten().map(|source| source.nested).sum();
        if found > MAX_NESTED {
            return Err(PoolError::TooManyNested { uid: request.uid.clone(), found, max: MAX_NESTED });
        }
        // What is not done by the snapshots themselves can't be completed after a crash.
        let more =
            found > 0 || request.disks.iter().any(|disk| disk.source == DiskSource::Empty && disk.read_only);
        let mut record = planned(request, more);
        building.write_record(&record)?;

        let snapshots = make_subvolumes(&building, &mut record.volume.disks, &sources)?;
        let mut timings = CreateTimings { snapshots, ..CreateTimings::default() };
        let finishing = Instant::now();
        for ((disk, sharing), source) in record.volume.disks.iter_mut().zip(&mut record.sharing).zip(&sources)
        {
            self.finish_disk(disk, sharing, source.as_ref())?;
        }
        record.unfinished = false;
        timings.finish = finishing.elapsed();
        let publishing = Instant::now();
        building.write_record(&record)?;
        if !building.publish(&format!("{VOLUMES}/{}", request.uid))? {
            let volume = self.existing(&request.uid)?;
            return Ok(CreatedVolume { volume, created: false, timings: CreateTimings::default() });
        }
        self.allow_sources(&record)?;
        // Otherwise the last snapshot committed all that `complete` needs.
        if more || sources.iter().all(Option::is_none) {
            self.commit()?;
        }
        timings.commit = publishing.elapsed();
        timings.total = started.elapsed();
        Ok(CreatedVolume { volume: record.volume, created: true, timings })
    }

    pub(super) fn open_source(&self, source: &DiskSource) -> Result<Option<OpenSource>> {
        let (subvolume, of_volume, inherited, holds) = match source {
            DiskSource::Empty => return Ok(None),
            DiskSource::Image { key } => (self.open_image(key)?, false, 0, Vec::new()),
            DiskSource::Volume { uid, disk } => {
                let record = self.record(uid)?;
                let known = record.disks().find(|(known, _)| known.name == *disk);
                let missing = || PoolError::NoDisk { uid: uid.clone(), disk: disk.clone() };
                let (known, sharing) = known.ok_or_else(missing)?;
                (self.open_disk(uid, disk)?, true, known.inherited_bytes, sharing.holds.clone())
            }
        };
        let id = btrfs::subvolume_id(&subvolume)?;
        let nested = btrfs::nested_subvolumes(&self.root, id)?.len();
        let charged_to = if of_volume { Qgroup::disk(id) } else { Qgroup::subvolume(id) };
        Ok(Some(OpenSource { subvolume, id, charged_to, inherited, holds, nested }))
    }

    fn finish_disk(&self, disk: &mut Disk, sharing: &mut Sharing, source: Option<&OpenSource>) -> Result<()> {
        // First the group, so that nested snapshots join it.
        self.make_group(disk.subvol_id)?;
        self.limit_disk(disk, sharing)?;
        match source {
            Some(source) => {
                self.finish_nested(source, disk)?;
                self.inherit(disk, sharing, source)
            }
            None if disk.read_only => {
                Ok(btrfs::set_read_only(btrfs::open_subvolume(&self.root, disk.subvol_id)?, true)?)
            }
            None => Ok(()),
        }
    }

    /// Notes what a new disk shares with its source.
    pub(super) fn inherit(&self, disk: &mut Disk, sharing: &mut Sharing, source: &OpenSource) -> Result<()> {
        let charged = btrfs::qgroup_usage(&self.root, source.charged_to)?.charged;
        disk.inherited_bytes = source.inherited + charged;
        sharing.holds = vec![Hold { subvol_id: source.id, bytes: charged }];
        sharing.holds.extend(source.holds.iter().take(MAX_HOLDS - 1));
        Ok(())
    }

    /// A read-only snapshot is born read-only, and opened for its nested ones only where there are some: each change of
    /// the flag costs a commit.
    fn finish_nested(&self, source: &OpenSource, disk: &Disk) -> Result<()> {
        if source.nested == 0 {
            return Ok(());
        }
        let subvolume = btrfs::open_subvolume(&self.root, disk.subvol_id)?;
        btrfs::set_read_only(&subvolume, false)?;
        btrfs::snapshot_nested(&self.root, source.id, disk.subvol_id)?;
        Ok(btrfs::set_read_only(&subvolume, disk.read_only)?)
    }

    /// All volumes that are not in the trash.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.records(VOLUMES)?.into_iter().map(|record| record.volume).collect())
    }

    /// One volume; `None` if it isn't here or is in the trash.
    pub fn volume(&self, uid: &str) -> Result<Option<Volume>> {
        match self.record(uid) {
            Ok(record) => Ok(Some(record.volume)),
            Err(PoolError::NoVolume { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn existing(&self, uid: &str) -> Result<Volume> {
        Ok(self.record(uid)?.volume)
    }

    pub(super) fn record(&self, uid: &str) -> Result<VolumeRecord> {
        check_name("volume", uid)?;
        let record = self.read_record(&format!("{VOLUMES}/{uid}"))?;
        record.ok_or_else(|| PoolError::NoVolume { uid: uid.to_owned() })
    }

    /// Opens the top directory of a disk.
    pub fn open_disk(&self, uid: &str, disk: &str) -> Result<OwnedFd> {
        check_name("volume", uid)?;
        check_name("disk", disk)?;
        self.open_dir(&format!("{VOLUMES}/{uid}/{disk}/{SUBVOLUME}"))?
            .ok_or_else(|| PoolError::NoDisk { uid: uid.to_owned(), disk: disk.to_owned() })
    }

    /// Path of a disk on the host, for `btrfs send` and the like. Do not open what is below it by path.
    pub fn disk_path(&self, uid: &str, disk: &str) -> Result<PathBuf> {
        self.open_disk(uid, disk)?;
        Ok(self.path.join(VOLUMES).join(uid).join(disk).join(SUBVOLUME))
    }

    /// Which disk of which volume a subvolume is; `None` if it is none of this pool's.
    pub fn find_disk(&self, subvolume: RootSubvolume) -> Result<Option<(Volume, Disk)>> {
        if btrfs::filesystem_id(&self.root)? != subvolume.filesystem {
            return Ok(None);
        }
        Ok(self.volumes()?.into_iter().find_map(|volume| {
            let disk = volume.disks.iter().find(|disk| disk.subvol_id == subvolume.id)?.clone();
            Some((volume, disk))
        }))
    }

    fn open_image(&self, key: &str) -> Result<OwnedFd> {
        check_name("image", key)?;
        let missing = || PoolError::NoImage { key: key.to_owned() };
        self.open_dir(&format!("{IMAGES}/{key}/{SUBVOLUME}"))?.ok_or_else(missing)
    }
}

fn check_request(request: &VolumeRequest) -> Result<()> {
    check_name("volume", &request.uid)?;
    let names: std::collections::BTreeSet<_> = request.disks.iter().map(|disk| &disk.name).collect();
    if names.is_empty() || names.len() != request.disks.len() {
        return Err(PoolError::BadDisks { uid: request.uid.clone() });
    }
    names.into_iter().try_for_each(|name| check_name("disk", name))
}

/// What is known before the subvolumes are made.
fn planned(request: &VolumeRequest, unfinished: bool) -> VolumeRecord {
    let disk = |spec: &DiskSpec| Disk {
        name: spec.name.clone(),
        subvol_id: 0,
        limit_bytes: spec.limit_bytes,
        read_only: spec.read_only,
        source: spec.source.clone(),
        inherited_bytes: 0,
    };
    let disks = request.disks.iter().map(disk).collect();
    let volume = Volume { uid: request.uid.clone(), disks, meta: request.meta.clone() };
    VolumeRecord { volume, unfinished, sharing: vec![Sharing::default(); request.disks.len()] }
}

/// First the empty subvolumes, so that the snapshots' commits include them, then one thread per snapshot: each starts
/// a commit, and those that come before it has begun are part of it (in 34 to 44 of 50 trials with two disks; without
/// the barrier in 2 of 50).
fn make_subvolumes(
    building: &Temporary<'_>,
    disks: &mut [Disk],
    sources: &[Option<OpenSource>],
) -> Result<Vec<(String, Duration)>> {
    let started = Instant::now();
    let mut work = Vec::new();
    for (disk, source) in disks.iter_mut().zip(sources) {
        let directory = building.make_dir(&disk.name)?;
        match source {
            None => disk.subvol_id = btrfs::create_subvolume(directory, SUBVOLUME)?,
            Some(source) => work.push((directory, disk, source)),
        }
    }
    let together = Barrier::new(work.len());
    let snapshot = |(directory, disk, source): (OwnedFd, &mut Disk, &OpenSource)| -> Result<_> {
        together.wait();
        let name = SUBVOLUME.as_bytes();
        disk.subvol_id = btrfs::snapshot(&source.subvolume, directory, name, disk.read_only)?;
        Ok((disk.name.clone(), started.elapsed()))
    };
    // One needs no thread.
    let last = work.pop();
    std::thread::scope(|scope| {
        let threads: Vec<_> = work.into_iter().map(|item| scope.spawn(|| snapshot(item))).collect();
        let last = last.map(snapshot);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<_>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let others: Vec<_> = threads.into_iter().map(join).collect();
        others.into_iter().chain(last).collect()
    })
}
