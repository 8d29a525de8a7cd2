//! One regular file.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use super::attributes;
use super::ids::IdMap;

/// Large enough that the system call's own cost is nothing, small enough for the processor's cache.
const BLOCK: usize = 256 << 10;

/// Copies data and attributes; returns the bytes of data.
pub(super) fn copy(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CStr,
    stat: &Statx,
    ids: &IdMap,
) -> io::Result<u64> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = File::from(rustix::fs::openat(source, name, read, Mode::empty())?);
    let to = File::from(rustix::fs::openat(target, name, write, Mode::RUSR | Mode::WUSR)?);
    let sparse = stat.stx_blocks * 512 < stat.stx_size;
    let bytes = if sparse {
        copy_data_ranges(&from, &to, stat.stx_size)?
    } else {
        copy_range(&from, &to, 0, stat.stx_size)?
    };
    attributes::copy_to_fd(&from, &to, stat, ids)?;
    Ok(bytes)
}

/// Copies what is between the holes.
fn copy_data_ranges(from: &File, to: &File, size: u64) -> io::Result<u64> {
    let (mut at, mut bytes) = (0, 0);
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(size);
        bytes += copy_range(from, to, start, at)?;
    }
    to.set_len(size)?;
    Ok(bytes)
}

/// Copies from `start` to `end` or to the end of the file.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
    let mut at = start;
    while at < end {
        let (mut from_at, mut to_at) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), length) {
            // Also what some filesystems say to a file that it can't copy.
            Ok(0) => break,
            Ok(copied) => at += copied as u64,
            // Not between these two filesystems (copy_file_range(2)).
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read_and_write(from, to, at, end)? - start)
}

fn read_and_write(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<u64> {
    let mut buffer = vec![0; BLOCK.min(usize::try_from(end - at).unwrap_or(BLOCK))];
    while at < end {
        let length = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let read = from.read_at(&mut buffer[..length], at)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    Ok(at)
}
