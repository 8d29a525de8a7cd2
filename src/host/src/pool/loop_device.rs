//! Loop devices by their ioctls (`include/uapi/linux/loop.h`), because losetup is one more program to ship and its
//! lookup goes by paths, which differ between mount namespaces.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::ioctl::Opcode;

const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_MAJOR: u32 = 7;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

const NO_INFO: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    names_and_key: [0; 160],
    init: [0; 2],
};

/// An open loop device. It goes away with its last user: this, or a mount of it.
pub(super) struct LoopDevice {
    /// N of `/dev/loopN`.
    pub number: u32,
    _device: File,
}

impl LoopDevice {
    /// Finds the loop device of a file and has it take on the file's present size, or attaches the file to a new one:
    /// direct I/O where the file's filesystem can do it, blocks of 4 KiB as btrfs has, detached by itself when unused.
    pub(super) fn attach(file: &File) -> io::Result<Self> {
        if let Some(found) = Self::find(file)? {
            // SAFETY: LOOP_SET_CAPACITY ignores its argument.
            unsafe { crate::sys::ioctl_number(&found._device, LOOP_SET_CAPACITY, 0) }?;
            return Ok(found);
        }
        let mut tries = 0;
        loop {
            match Self::configure_free(file) {
                // Somebody else took the free device first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < 20 => tries += 1,
                result => return result,
            }
        }
    }

    fn find(file: &File) -> io::Result<Option<Self>> {
        let wanted = file.metadata()?;
        for entry in std::fs::read_dir("/sys/block")?.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
            let Some(number) = number.filter(|_| entry.path().join("loop/backing_file").exists()) else {
                continue;
            };
            let Ok(device) = open_device(number) else { continue };
            let mut info = NO_INFO;
            // SAFETY: LOOP_GET_STATUS64 fills a LoopInfo64.
            let known = unsafe { crate::sys::ioctl(&device, LOOP_GET_STATUS64, &mut info) }.is_ok();
            if known && info.device == wanted.dev() && info.inode == wanted.ino() && info.offset == 0 {
                return Ok(Some(Self { number, _device: device }));
            }
        }
        Ok(None)
    }

    fn configure_free(file: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        // SAFETY: LOOP_CTL_GET_FREE ignores its argument.
        let number = unsafe { crate::sys::ioctl_number(&control, LOOP_CTL_GET_FREE, 0) }?.cast_unsigned();
        let device = open_device(number)?;
        let mut config = LoopConfig {
            fd: file.as_raw_fd().cast_unsigned(),
            block_size: 4096,
            info: LoopInfo64 { flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, ..NO_INFO },
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads a LoopConfig.
        unsafe { crate::sys::ioctl(&device, LOOP_CONFIGURE, &mut config) }?;
        Ok(Self { number, _device: device })
    }
}

/// Path of a loop device.
pub(super) fn path(number: u32) -> PathBuf {
    Path::new("/dev").join(format!("loop{number}"))
}

/// A container's /dev has only the nodes that were there when it started: make the missing one.
fn open_device(number: u32) -> io::Result<File> {
    let path = path(number);
    let open = || OpenOptions::new().read(true).write(true).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let device = rustix::fs::makedev(LOOP_MAJOR, number);
            rustix::fs::mknodat(CWD, &path, FileType::BlockDevice, Mode::from_raw_mode(0o600), device)?;
            open()
        }
        result => result,
    }
}
