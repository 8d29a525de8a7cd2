//! From a loop file or a device to a mounted btrfs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::mount::MountFlags;

use super::loop_device::{self, LoopDevice};
use super::types::PoolSource;
use super::{PoolError, Result};
use crate::btrfs::{self, FilesystemId};

/// The superblock is 64 KiB into the device; the UUID is at 0x20 in it and the magic at 0x40 (btrfs-man5).
const SUPERBLOCK: u64 = 0x1_0000;
const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// Size of a metadata block: the smallest. A snapshot adds a reference to every child of its source's root node, and the
/// smaller the blocks, the higher the tree and the fewer those children: docs/decisions/0009.
const NODE_SIZE: usize = 4 << 10;

/// How often metadata is stored.
#[derive(Clone, Copy)]
enum Copies {
    /// A file is as safe as the filesystem that it is on.
    One,
    /// btrfs's default on a device.
    Two,
}

/// Mounts the pool and returns its directory.
pub(super) fn mount(source: &PoolSource, mount_point: &Path) -> Result<PathBuf> {
    match source {
        PoolSource::Path { path } => return Ok(path.clone()),
        PoolSource::Device { path } => {
            match superblock(path)? {
                Superblock::Blank => mkfs(path, Copies::Two)?,
                Superblock::Btrfs(_) => {}
                Superblock::Other => return Err(PoolError::ForeignData { path: path.clone() }),
            }
            mount_device(path, mount_point)?;
        }
        PoolSource::LoopFile { path, size_bytes } => {
            let file = ensure_loop_file(path, *size_bytes)?;
            // The device lets go of the file with its last user: keep it open until it is mounted.
            let device = LoopDevice::attach(&file)
                .map_err(PoolError::io("attach to a loop device", path.display().to_string()))?;
            mount_device(&loop_device::path(device.number), mount_point)?;
        }
    }
    Ok(mount_point.to_owned())
}

/// Makes, formats and grows the file. A new one is formatted under another name, so that a crash leaves no file with
/// half a filesystem.
fn ensure_loop_file(path: &Path, size: u64) -> Result<File> {
    let shown = path.display().to_string();
    if !path.try_exists().map_err(PoolError::io("look for", shown.clone()))? {
        make_loop_file(path, size)?;
    }
    match superblock(path)? {
        Superblock::Btrfs(_) => {}
        Superblock::Blank => mkfs(path, Copies::One)?,
        Superblock::Other => return Err(PoolError::ForeignData { path: path.to_owned() }),
    }
    let open = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() < size {
            file.set_len(size)?;
        }
        Ok(file)
    };
    open().map_err(PoolError::io("open", shown))
}

fn make_loop_file(path: &Path, size: u64) -> Result<()> {
    let new = path.with_added_extension("new");
    let shown = path.display().to_string();
    let make = || -> io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        File::create(&new)?.set_len(size)
    };
    make().map_err(PoolError::io("make", shown.clone()))?;
    mkfs(&new, Copies::One)?;
    let publish = || -> io::Result<()> {
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)
    };
    publish().map_err(PoolError::io("make", shown))
}

enum Superblock {
    /// Only zeros where any filesystem, partition table or LUKS header would be.
    Blank,
    Btrfs(FilesystemId),
    Other,
}

fn superblock(path: &Path) -> Result<Superblock> {
    read_superblock(path).map_err(PoolError::io("read", path.display().to_string()))
}

fn read_superblock(path: &Path) -> io::Result<Superblock> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut start)?;
    let at = SUPERBLOCK as usize;
    if start.get(at + 0x40..at + 0x48) == Some(MAGIC) {
        let mut id = [0; 16];
        id.copy_from_slice(&start[at + 0x20..at + 0x30]);
        return Ok(Superblock::Btrfs(FilesystemId(id)));
    }
    // RAID members and backup partition tables are at the end.
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(1 << 20)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let blank = start.iter().chain(&tail).all(|byte| *byte == 0);
    Ok(if blank { Superblock::Blank } else { Superblock::Other })
}

fn mkfs(path: &Path, copies: Copies) -> Result<()> {
    let fail = |output: String| PoolError::Mkfs { path: path.to_owned(), output };
    // Not below a page, which older versions of mkfs take for the smallest block.
    let node_size = NODE_SIZE.max(rustix::param::page_size()).to_string();
    let copies = match copies {
        Copies::One => "single",
        Copies::Two => "dup",
    };
    let result = Command::new("mkfs.btrfs")
        .args(["--quiet", "--label", "sparks", "--nodesize", &node_size, "--metadata", copies])
        .arg(path)
        .output();
    let result = result.map_err(|error| fail(format!("{error}; is btrfs-progs in the agent's image?")))?;
    if result.status.success() {
        return Ok(());
    }
    Err(fail(String::from_utf8_lossy(&result.stderr).trim().to_owned()))
}

/// Mounts a device, or finds it mounted, and grows the filesystem to it.
fn mount_device(device: &Path, mount_point: &Path) -> Result<()> {
    let shown = mount_point.display().to_string();
    let Superblock::Btrfs(id) = superblock(device)? else {
        return Err(PoolError::ForeignData { path: device.to_owned() });
    };
    std::fs::create_dir_all(mount_point).map_err(PoolError::io("make", shown.clone()))?;
    let mut directory = open_directory(mount_point)?;
    if !is_mount(&directory)? {
        // No device node of a tenant works in here; the flag goes on to the clones of this mount.
        let flags = MountFlags::NOATIME | MountFlags::NODEV;
        rustix::mount::mount(device, mount_point, c"btrfs", flags, None)
            .map_err(PoolError::io("mount the pool at", shown))?;
        directory = open_directory(mount_point)?;
    }
    if !btrfs::is_btrfs(&directory) || btrfs::filesystem_id(&directory)? != id {
        return Err(PoolError::MountPointInUse { path: mount_point.to_owned() });
    }
    // Not without need: it is refused while a balance runs.
    if device_size(device)? > btrfs::space(&directory)?.size {
        btrfs::grow_to_device(&directory)?;
    }
    Ok(())
}

/// In bytes, in whole sectors of btrfs.
fn device_size(device: &Path) -> Result<u64> {
    const SECTOR: u64 = 4096;
    let size = File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0)));
    let size = size.map_err(PoolError::io("read the size of", device.display().to_string()))?;
    Ok(size / SECTOR * SECTOR)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(PoolError::io("open", path.display().to_string()))
}

fn is_mount(directory: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_err(PoolError::io("examine", "the mount point"))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
