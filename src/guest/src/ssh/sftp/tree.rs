//! Requests on paths.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::files::retry;
use super::packet::Malformed;
use super::realpath::realpath as resolve;
use super::session::{Answer, Done, Request};
use super::status::{Refusal, Status};

pub fn stat(mut request: Request<'_>) -> Answer {
    let stat = rustix::fs::stat(request.fields.string()?)?;
    request.reply_attributes(&stat)
}

pub fn lstat(mut request: Request<'_>) -> Answer {
    let stat = rustix::fs::lstat(request.fields.string()?)?;
    request.reply_attributes(&stat)
}

/// All that can be set is set, whatever else fails; the last error is the answer, as OpenSSH has it.
pub fn setstat(mut request: Request<'_>) -> Answer {
    let path = request.fields.string()?;
    let attributes = Attributes::parse(&mut request.fields)?;
    let steps = [
        attributes.size.map(|size| truncate(path, size)),
        attributes.permissions.map(|bits| rustix::fs::chmod(path, attributes::mode(bits))),
        attributes.timestamps().map(|times| rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())),
        attributes.ids().map(|(uid, gid)| rustix::fs::chown(path, uid, gid)),
    ];
    last_error(steps)
}

/// `lsetstat@openssh.com`: the same on a link itself, whose size can't be set.
pub fn lsetstat(mut request: Request<'_>) -> Answer {
    let path = request.fields.string()?;
    let attributes = Attributes::parse(&mut request.fields)?;
    if attributes.size.is_some() {
        return Err(Refusal::Status(Status::BadMessage));
    }
    let steps = [
        attributes.permissions.map(|bits| change_mode_of_link(path, attributes::mode(bits))),
        attributes
            .timestamps()
            .map(|times| rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)),
        attributes
            .ids()
            .map(|(uid, gid)| rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)),
    ];
    last_error(steps)
}

/// Runs over steps that were all taken, in their order.
pub fn last_error(steps: impl IntoIterator<Item = Option<rustix::io::Result<()>>>) -> Answer {
    match steps.into_iter().flatten().filter_map(Result::err).last() {
        Some(errno) => Err(errno.into()),
        None => Ok(Done::Ok),
    }
}

fn truncate(path: &[u8], size: u64) -> rustix::io::Result<()> {
    // A FIFO without a reader is refused, not waited for.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    retry(|| rustix::fs::ftruncate(&file, size))
}

/// `fchmodat(AT_SYMLINK_NOFOLLOW)` by way of /proc, as the C library does where the kernel is older than 6.6. A link has
/// no mode of its own.
fn change_mode_of_link(path: &[u8], mode: Mode) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::Symlink => Err(Errno::OPNOTSUPP),
        _ => rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode),
    }
}

pub fn remove(mut request: Request<'_>) -> Answer {
    rustix::fs::unlink(request.fields.string()?)?;
    Ok(Done::Ok)
}

pub fn mkdir(mut request: Request<'_>) -> Answer {
    let path = request.fields.string()?;
    let attributes = Attributes::parse(&mut request.fields)?;
    rustix::fs::mkdir(path, attributes.mode(0o777))?;
    Ok(Done::Ok)
}

pub fn rmdir(mut request: Request<'_>) -> Answer {
    rustix::fs::rmdir(request.fields.string()?)?;
    Ok(Done::Ok)
}

pub fn realpath(mut request: Request<'_>) -> Answer {
    let path = resolve(request.fields.string()?)?;
    request.reply_name(&path)
}

pub fn readlink(mut request: Request<'_>) -> Answer {
    let target = rustix::fs::readlink(request.fields.string()?, Vec::new())?;
    request.reply_name(target.to_bytes())
}

fn two_paths<'a>(request: &mut Request<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    Ok((request.fields.string()?, request.fields.string()?))
}

/// The first path is where the link points to, the second one the link: the reverse of the draft, as OpenSSH has done it
/// from its first day, and with it everybody else (its PROTOCOL file, section 4.1).
pub fn symlink(mut request: Request<'_>) -> Answer {
    let (target, link) = two_paths(&mut request)?;
    rustix::fs::symlink(target, link)?;
    Ok(Done::Ok)
}

pub fn hardlink(mut request: Request<'_>) -> Answer {
    let (old, new) = two_paths(&mut request)?;
    rustix::fs::link(old, new)?;
    Ok(Done::Ok)
}

/// `posix-rename@openssh.com`: what is there already is replaced.
pub fn posix_rename(mut request: Request<'_>) -> Answer {
    let (old, new) = two_paths(&mut request)?;
    rustix::fs::rename(old, new)?;
    Ok(Done::Ok)
}

/// RENAME of this version replaces nothing.
pub fn rename(mut request: Request<'_>) -> Answer {
    let (old, new) = two_paths(&mut request)?;
    match rustix::fs::renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_link(old, new),
        other => other,
    }?;
    Ok(Done::Ok)
}

/// On a file system that can't do it in one step: a second link can't replace anything either. A directory has no second
/// link, so that for it a race remains, which can replace no more than an empty directory.
fn rename_by_link(old: &[u8], new: &[u8]) -> rustix::io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::lstat(old)?.st_mode) == FileType::Directory {
        return match rustix::fs::lstat(new) {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::rename(old, new),
        };
    }
    rustix::fs::link(old, new)?;
    rustix::fs::unlink(old).inspect_err(|_| {
        // Not moved: then not copied either.
        let _ = rustix::fs::unlink(new);
    })
}
