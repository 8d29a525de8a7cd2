//! OpenSSH's extensions (its PROTOCOL file, section 4).

use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::copy;
use super::packet::{Fields, MAX_DATA, MAX_PACKET, Malformed, Reply, kind};
use super::realpath::realpath;
use super::rules::Rules;
use super::session::{Answer, Done, Request, Session};
use super::status::{Refusal, Status};
use super::tree;
use crate::users::{self, User};

/// Name and version of each, in the order in which OpenSSH names them.
const EXTENSIONS: [(&[u8], &[u8]); 11] = [
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"hardlink@openssh.com", b"1"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"expand-path@openssh.com", b"1"),
    (b"copy-data", b"1"),
    (b"home-directory", b"1"),
    (b"users-groups-by-id@openssh.com", b"1"),
];

/// Tells the client of all that it may use.
pub fn advertise(reply: &mut Reply<'_>, rules: &Rules) {
    for (name, version) in EXTENSIONS.iter().filter(|(name, _)| rules.check(kind::EXTENDED, name).is_ok()) {
        reply.string(name).string(version);
    }
}

impl Session {
    pub(super) fn extended(&mut self, mut request: Request<'_>) -> Answer {
        match request.fields.string()? {
            b"posix-rename@openssh.com" => tree::posix_rename(request),
            b"statvfs@openssh.com" => statvfs(request),
            b"fstatvfs@openssh.com" => self.fstatvfs(request),
            b"hardlink@openssh.com" => tree::hardlink(request),
            b"fsync@openssh.com" => self.fsync(request),
            b"lsetstat@openssh.com" => tree::lsetstat(request),
            b"limits@openssh.com" => self.limits(request),
            b"expand-path@openssh.com" => expand_path(request),
            b"copy-data" => self.copy_data(request),
            b"home-directory" => home_directory(request),
            b"users-groups-by-id@openssh.com" => self.users_groups_by_id(request),
            _ => Err(Refusal::Status(Status::Unsupported)),
        }
    }

    fn fstatvfs(&mut self, mut request: Request<'_>) -> Answer {
        let file = self.handles.file(request.fields.string()?).ok_or(Refusal::Status(Status::Failure))?;
        reply_statvfs(request, &rustix::fs::fstatvfs(file)?)
    }

    fn fsync(&mut self, mut request: Request<'_>) -> Answer {
        let file = self.handles.file(request.fields.string()?).ok_or(Refusal::Status(Status::NoSuchFile))?;
        rustix::fs::fsync(file)?;
        Ok(Done::Ok)
    }

    fn limits(&mut self, request: Request<'_>) -> Answer {
        let limits = [MAX_PACKET, MAX_DATA, MAX_DATA, self.handles.limit()];
        request.replies.packet(kind::EXTENDED_REPLY, |reply| {
            reply.u32(request.id);
            for limit in limits {
                reply.u64(limit as u64);
            }
        });
        Ok(Done::Replied)
    }

    fn copy_data(&mut self, mut request: Request<'_>) -> Answer {
        let fields = &mut request.fields;
        let (from, from_offset, length) = (fields.string()?, fields.u64()?, fields.u64()?);
        let (to, to_offset) = (fields.string()?, fields.u64()?);
        let file = |handle| self.handles.file(handle).ok_or(Refusal::Status(Status::NoSuchFile));
        let (from, to) = (file(from)?, file(to)?);
        copy::copy(from, from_offset, length, to, to_offset).map(|()| Done::Ok)
    }

    fn users_groups_by_id(&mut self, mut request: Request<'_>) -> Answer {
        let (users, groups) = (request.fields.string()?, request.fields.string()?);
        self.people.refresh();
        let users = names(users, |uid| self.people.user(uid))?;
        let groups = names(groups, |gid| self.people.group(gid))?;
        if users.len() + groups.len() > MAX_DATA {
            return Err(Refusal::Status(Status::Failure));
        }
        request.replies.packet(kind::EXTENDED_REPLY, |reply| {
            reply.u32(request.id).string(&users).string(&groups);
        });
        Ok(Done::Replied)
    }
}

/// The names of a list of numbers; an empty one where there is none.
fn names<'a>(ids: &[u8], name: impl Fn(u32) -> Option<&'a [u8]>) -> Result<Vec<u8>, Malformed> {
    let mut ids = Fields::new(ids);
    let mut names = Vec::new();
    while !ids.is_empty() {
        let name = name(ids.u32()?).unwrap_or_default();
        // Names are short, see `people`.
        names.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
        names.extend_from_slice(name);
    }
    Ok(names)
}

fn statvfs(mut request: Request<'_>) -> Answer {
    let statvfs = rustix::fs::statvfs(request.fields.string()?)?;
    reply_statvfs(request, &statvfs)
}

fn reply_statvfs(request: Request<'_>, fs: &StatVfs) -> Answer {
    let read_only = u64::from(fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let no_setuid = u64::from(fs.f_flag.contains(StatVfsMountFlags::NOSUID)) << 1;
    request.replies.packet(kind::EXTENDED_REPLY, |reply| {
        reply.u32(request.id);
        for value in [fs.f_bsize, fs.f_frsize, fs.f_blocks, fs.f_bfree, fs.f_bavail] {
            reply.u64(value);
        }
        for value in [fs.f_files, fs.f_ffree, fs.f_favail, fs.f_fsid, read_only | no_setuid, fs.f_namemax] {
            reply.u64(value);
        }
    });
    Ok(Done::Replied)
}

/// `~/x` is below the directory that the session began in, which is the home directory unless `-d` says another; `~user/x` below that user's.
fn expand_path(mut request: Request<'_>) -> Answer {
    let path = match request.fields.string()? {
        b"~" => b".".to_vec(),
        [b'~', b'/', rest @ ..] => [b"./", rest].concat(),
        [b'~', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (user, rest) = rest.split_at(end);
            [user_named(user).ok_or(Refusal::NoSuchUser)?.home.as_bytes(), rest].concat()
        }
        path => path.to_vec(),
    };
    let path = realpath(&path)?;
    request.reply_name(&path)
}

/// `home-directory` of a user, by default of one's own.
fn home_directory(mut request: Request<'_>) -> Answer {
    let user = match request.fields.string()? {
        b"" => users::load(Some(&rustix::process::getuid().as_raw().to_string())).ok(),
        name => user_named(name),
    };
    let home = user.ok_or(Refusal::Status(Status::Failure))?.home;
    request.reply_name(home.as_bytes())
}

fn user_named(name: &[u8]) -> Option<User> {
    users::by_name(std::str::from_utf8(name).ok()?).ok()
}
