//! Requests on open files and directories.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::longname;
use super::packet::{MAX_DATA, kind};
use super::session::{Answer, Done, Request, Session};
use super::status::{Refusal, Status};
use super::tree;

const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

/// Most entries of a directory in one reply.
const BATCH: usize = 100;

/// A request on a handle that is none of its kind.
const NO_SUCH_HANDLE: Refusal = Refusal::Status(Status::Failure);

impl Session {
    pub(super) fn open(&mut self, mut request: Request<'_>) -> Answer {
        let (path, flags) = (request.fields.string()?, request.fields.u32()?);
        let attributes = Attributes::parse(&mut request.fields)?;
        self.rules.check_open(flags & (WRITE | CREATE | TRUNCATE) != 0)?;
        let file = rustix::fs::open(path, open_flags(flags), attributes.mode(0o666))?;
        let handle = self.handles.add_file(file)?;
        request.reply_handle(handle)
    }

    pub(super) fn close(&mut self, mut request: Request<'_>) -> Answer {
        self.handles.close(request.fields.string()?).map(|()| Done::Ok)
    }

    pub(super) fn read(&mut self, mut request: Request<'_>) -> Answer {
        let fields = &mut request.fields;
        let (handle, offset, length) = (fields.string()?, fields.u64()?, fields.u32()?);
        let file = self.handles.file(handle).ok_or(NO_SUCH_HANDLE)?;
        let length = usize::try_from(length).unwrap_or(MAX_DATA).min(MAX_DATA);
        if length == 0 {
            request.replies.packet(kind::DATA, |reply| {
                reply.u32(request.id).string(b"");
            });
            return Ok(Done::Replied);
        }
        let read = request.replies.data(request.id, length, |buffer| {
            retry(|| rustix::io::pread(file, &mut *buffer, offset).map(|(read, _)| read.len()))
        })?;
        if read == 0 { Err(Refusal::Status(Status::Eof)) } else { Ok(Done::Replied) }
    }

    pub(super) fn write(&mut self, mut request: Request<'_>) -> Answer {
        let fields = &mut request.fields;
        let (handle, mut offset, mut data) = (fields.string()?, fields.u64()?, fields.string()?);
        let file = self.handles.file(handle).ok_or(NO_SUCH_HANDLE)?;
        loop {
            // A file opened for appending is appended to at any offset (pwrite(2), BUGS), which is what is wanted.
            let written = retry(|| rustix::io::pwrite(file, data, offset))?;
            data = data.get(written..).unwrap_or_default();
            if data.is_empty() {
                return Ok(Done::Ok);
            }
            if written == 0 {
                return Err(Refusal::Status(Status::Failure));
            }
            offset = offset.saturating_add(written as u64);
        }
    }

    pub(super) fn fstat(&mut self, mut request: Request<'_>) -> Answer {
        let file = self.handles.file(request.fields.string()?).ok_or(NO_SUCH_HANDLE)?;
        request.reply_attributes(&rustix::fs::fstat(file)?)
    }

    pub(super) fn fsetstat(&mut self, mut request: Request<'_>) -> Answer {
        let handle = request.fields.string()?;
        let attributes = Attributes::parse(&mut request.fields)?;
        let file = self.handles.file(handle).ok_or(NO_SUCH_HANDLE)?;
        tree::last_error([
            attributes.size.map(|size| rustix::fs::ftruncate(file, size)),
            attributes.permissions.map(|bits| rustix::fs::fchmod(file, attributes::mode(bits))),
            attributes.timestamps().map(|times| rustix::fs::futimens(file, &times)),
            attributes.ids().map(|(uid, gid)| rustix::fs::fchown(file, uid, gid)),
        ])
    }

    pub(super) fn opendir(&mut self, mut request: Request<'_>) -> Answer {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = rustix::fs::open(request.fields.string()?, flags, Mode::empty())?;
        let handle = self.handles.add_directory(Dir::new(directory)?)?;
        self.people.refresh();
        request.reply_handle(handle)
    }

    pub(super) fn readdir(&mut self, mut request: Request<'_>) -> Answer {
        let directory = self.handles.directory(request.fields.string()?).ok_or(NO_SUCH_HANDLE)?;
        let entries = batch(directory)?;
        if entries.is_empty() {
            return Err(Refusal::Status(Status::Eof));
        }
        let now = now();
        request.replies.packet(kind::NAME, |reply| {
            // At most BATCH.
            reply.u32(request.id).u32(u32::try_from(entries.len()).unwrap_or(0));
            for (name, stat) in &entries {
                reply.string(name).string(&longname::of(name, stat, &self.people, now));
                attributes::put(reply, stat);
            }
        });
        Ok(Done::Replied)
    }
}

/// The next entries. One that was removed meanwhile is left out.
fn batch(directory: &mut Dir) -> Result<Vec<(Vec<u8>, rustix::fs::Stat)>, Errno> {
    let mut entries = Vec::new();
    while entries.len() < BATCH {
        let Some(entry) = directory.read() else { break };
        let entry = entry?;
        let name = entry.file_name();
        if let Ok(stat) = rustix::fs::statat(directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            entries.push((name.to_bytes().to_vec(), stat));
        }
    }
    Ok(entries)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A terminal that is opened must not become this process's own.
fn open_flags(flags: u32) -> OFlags {
    let has = |flag| flags & flag != 0;
    let mut open = OFlags::CLOEXEC | OFlags::NOCTTY;
    open |= match (has(READ), has(WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    for (flag, meaning) in [
        (APPEND, OFlags::APPEND),
        (CREATE, OFlags::CREATE),
        (TRUNCATE, OFlags::TRUNC),
        (EXCLUSIVE, OFlags::EXCL),
    ] {
        if has(flag) {
            open |= meaning;
        }
    }
    open
}

/// Again, when a signal came between.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
