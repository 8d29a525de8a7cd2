//! A pool on a loop file and a pod without Kubernetes. All of it needs root.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of it")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sparks_host::pool::{DiskSource, DiskSpec, Pool, PoolError, PoolSource, Volume, VolumeRequest};

pub mod pod;

pub const MIB: u64 = 1 << 20;

/// A pool on a loop file of its own, unmounted and deleted when dropped, also by a panic. The loop device goes with
/// its last mount (LO_FLAGS_AUTOCLEAR).
pub struct TestPool {
    pool: Option<Pool>,
    pub reserve: u64,
    pub size: u64,
    // Dropped last.
    directory: tempfile::TempDir,
}

impl TestPool {
    pub fn new() -> Self {
        Self::with(1024 * MIB, 0)
    }

    pub fn with(size: u64, reserve: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut test = Self { pool: None, reserve, size, directory };
        test.reopen();
        test
    }

    pub fn source(&self) -> PoolSource {
        PoolSource::LoopFile { path: self.directory.path().join("pool.img"), size_bytes: self.size }
    }

    pub fn mount_point(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// As when the agent is started again.
    pub fn reopen(&mut self) -> &Pool {
        self.pool = None;
        for _ in 0..200 {
            match Pool::open(&self.source(), &self.mount_point(), self.reserve) {
                // A program that another test is starting has a copy of every descriptor until its exec.
                Err(PoolError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
                result => {
                    self.pool = Some(result.unwrap());
                    return self;
                }
            }
        }
        panic!("the pool stays locked");
    }

    /// Unmounts the pool, and waits until nobody (see above) keeps its filesystem.
    fn unmount(&mut self) {
        self.pool = None;
        unmount(&self.mount_point());
        let file = self.directory.path().join("pool.img");
        for _ in 0..200 {
            let loops = fs::read_dir("/sys/block").unwrap().flatten();
            let backing =
                |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
            if !loops.filter_map(backing).any(|path| Path::new(path.trim_end()) == file) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the pool stays in use");
    }

    /// As when the machine is started again.
    pub fn reboot(&mut self) -> &Pool {
        self.unmount();
        self.reopen()
    }

    /// As when the machine loses power: what the filesystem did not write is lost.
    pub fn crash(&mut self) -> &Pool {
        let copy = self.directory.path().join("pool.after-crash");
        let file = self.directory.path().join("pool.img");
        let done = std::process::Command::new("cp").arg("--sparse=always").args([&file, &copy]).status();
        assert!(done.unwrap().success());
        self.unmount();
        fs::rename(copy, file).unwrap();
        self.reopen()
    }

    pub fn disk(&self, uid: &str, disk: &str) -> PathBuf {
        self.disk_path(uid, disk).unwrap()
    }

    pub fn create(&self, uid: &str, disks: &[DiskSpec]) -> Volume {
        self.create_volume(&request(uid, disks)).unwrap().volume
    }

    /// A volume of one disk `root` with this source.
    pub fn create_root(&self, uid: &str, source: DiskSource) -> Volume {
        self.create(uid, &[spec("root", source, None)])
    }

    /// Charged bytes of a disk, exactly.
    pub fn own_bytes(&self, uid: &str, disk: &str) -> u64 {
        sync(&self.mount_point());
        let usage = self.usage(uid).unwrap();
        usage.iter().find(|usage| usage.disk == disk).unwrap().exclusive_bytes
    }
}

impl std::ops::Deref for TestPool {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        self.pool.as_ref().unwrap()
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        self.pool = None;
        unmount(&self.mount_point());
    }
}

/// Unmounts what a test should not have mounted, also by a panic.
pub struct UnmountOnDrop(pub PathBuf);

impl Drop for UnmountOnDrop {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn unmount(mount_point: &Path) {
    let _ = rustix::mount::unmount(mount_point, rustix::mount::UnmountFlags::DETACH);
}

pub fn sync(path: &Path) {
    rustix::fs::syncfs(fs::File::open(path).unwrap()).unwrap();
}

pub fn request(uid: &str, disks: &[DiskSpec]) -> VolumeRequest {
    VolumeRequest { uid: uid.into(), disks: disks.to_vec(), meta: json!({"for": uid}) }
}

pub fn spec(name: &str, source: DiskSource, limit_bytes: Option<u64>) -> DiskSpec {
    DiskSpec { name: name.into(), source, limit_bytes, read_only: false }
}

pub fn fork_of(uid: &str, disk: &str) -> DiskSource {
    DiskSource::Volume { uid: uid.into(), disk: disk.into() }
}

/// Writes bytes that do not compress and waits until they are on disk.
pub fn write(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file = fs::File::create(path)?;
    let block: Vec<u8> = (0..MIB).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    for at in (0..bytes).step_by(block.len()) {
        let length = block.len().min((bytes - at) as usize);
        file.write_all_at(&block[..length], at)?;
    }
    file.sync_all()
}

pub fn write_text(path: &Path, text: &str) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub fn is_disk_quota(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EDQUOT)
}

pub fn make_public(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a subvolume as a tenant does, at a path.
pub fn nest(path: &Path) {
    let parent = fs::File::open(path.parent().unwrap()).unwrap();
    sparks_host::btrfs::create_subvolume(parent, path.file_name().unwrap().to_str().unwrap()).unwrap();
}

pub fn subvolume_id(path: &Path) -> u64 {
    sparks_host::btrfs::subvolume_id(fs::File::open(path).unwrap()).unwrap()
}
