//! `copy-data`: from one open file to another without the bytes travelling to the client and back.

use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::files::retry;
use super::status::{Refusal, Status};

/// Most bytes that the kernel is asked to copy at once.
const CHUNK: usize = 1 << 30;

/// Size of the buffer where the kernel can't.
const BUFFER: usize = 256 << 10;

/// Copies `length` bytes, or all up to the end of the file when it is 0.
pub fn copy(
    from: BorrowedFd<'_>,
    mut from_offset: u64,
    length: u64,
    to: BorrowedFd<'_>,
    mut to_offset: u64,
) -> Result<(), Refusal> {
    if same(&rustix::fs::fstat(from)?, &rustix::fs::fstat(to)?) {
        return Err(Refusal::Status(Status::Failure));
    }
    let mut left = if length == 0 { u64::MAX } else { length };
    // The kernel shares the blocks where the file system can; it refuses a file that is appended to.
    let appends = rustix::fs::fcntl_getfl(to)?.contains(OFlags::APPEND);
    while left > 0 && !appends {
        let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let copied = retry(|| {
            rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), chunk)
        });
        match copied {
            // The end, or a file of /proc, which has content but no size: reading tells.
            Ok(0) => break,
            Ok(copied) => left -= copied as u64,
            Err(Errno::INVAL | Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let at_end = by_buffer(from, from_offset, &mut left, to, to_offset)?;
    if at_end && length != 0 { Err(Refusal::Status(Status::Eof)) } else { Ok(()) }
}

fn same(from: &Stat, to: &Stat) -> bool {
    (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino)
}

/// Copies what is left, and says whether the file ended before.
fn by_buffer(
    from: BorrowedFd<'_>,
    mut from_offset: u64,
    left: &mut u64,
    to: BorrowedFd<'_>,
    mut to_offset: u64,
) -> rustix::io::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    while *left > 0 {
        let wanted = usize::try_from(*left).unwrap_or(BUFFER).min(BUFFER);
        let read = retry(|| rustix::io::pread(from, &mut buffer[..wanted], from_offset))?;
        if read == 0 {
            return Ok(true);
        }
        let mut data = &buffer[..read];
        while !data.is_empty() {
            let written = retry(|| rustix::io::pwrite(to, data, to_offset))?;
            if written == 0 {
                return Err(Errno::IO);
            }
            data = &data[written..];
            to_offset = to_offset.saturating_add(written as u64);
        }
        from_offset = from_offset.saturating_add(read as u64);
        *left -= read as u64;
    }
    Ok(false)
}
