//! What a session may ask for: the arguments of sftp-server(8).

use super::packet::kind;
use super::status::{Refusal, Status};

/// A request as `-P` and `-p` name it.
struct Kind {
    name: &'static str,
    /// Of the packet, and of an extension the name in it.
    packet: (u8, &'static [u8]),
    /// Whether it changes something; opening does so by its flags.
    writes: bool,
}

const fn plain(name: &'static str, packet: u8, writes: bool) -> Kind {
    Kind { name, packet: (packet, b""), writes }
}

const fn extension(name: &'static str, in_packet: &'static [u8], writes: bool) -> Kind {
    Kind { name, packet: (kind::EXTENDED, in_packet), writes }
}

/// All, as `sftp-server -Q requests` lists them.
const KINDS: [Kind; 29] = [
    plain("open", kind::OPEN, false),
    plain("close", kind::CLOSE, false),
    plain("read", kind::READ, false),
    plain("write", kind::WRITE, true),
    plain("lstat", kind::LSTAT, false),
    plain("fstat", kind::FSTAT, false),
    plain("setstat", kind::SETSTAT, true),
    plain("fsetstat", kind::FSETSTAT, true),
    plain("opendir", kind::OPENDIR, false),
    plain("readdir", kind::READDIR, false),
    plain("remove", kind::REMOVE, true),
    plain("mkdir", kind::MKDIR, true),
    plain("rmdir", kind::RMDIR, true),
    plain("realpath", kind::REALPATH, false),
    plain("stat", kind::STAT, false),
    plain("rename", kind::RENAME, true),
    plain("readlink", kind::READLINK, false),
    plain("symlink", kind::SYMLINK, true),
    extension("posix-rename", b"posix-rename@openssh.com", true),
    extension("statvfs", b"statvfs@openssh.com", false),
    extension("fstatvfs", b"fstatvfs@openssh.com", false),
    extension("hardlink", b"hardlink@openssh.com", true),
    extension("fsync", b"fsync@openssh.com", true),
    extension("lsetstat", b"lsetstat@openssh.com", true),
    extension("limits", b"limits@openssh.com", false),
    extension("expand-path", b"expand-path@openssh.com", false),
    extension("copy-data", b"copy-data", true),
    extension("home-directory", b"home-directory", false),
    extension("users-groups-by-id", b"users-groups-by-id@openssh.com", false),
];

/// A name in `-P` or `-p` that is no request's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no request `{0}` in SFTP; `sftp-server -Q requests` lists their names")]
pub struct UnknownRequest(String);

/// Which requests are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `-R`: none that changes something.
    pub read_only: bool,
    /// `-P`: none of these.
    pub denied: Option<Vec<&'static str>>,
    /// `-p`: none but these.
    pub allowed: Option<Vec<&'static str>>,
}

/// Reads a list of names with commas between. A name that is none is an error, other than with OpenSSH: it was meant to
/// forbid something.
pub fn requests(list: &str) -> Result<Vec<&'static str>, UnknownRequest> {
    let known = |name: &str| {
        let kind = KINDS.iter().find(|kind| kind.name == name);
        kind.map(|kind| kind.name).ok_or_else(|| UnknownRequest(name.into()))
    };
    list.split(',').filter(|name| !name.is_empty()).map(known).collect()
}

impl Rules {
    /// Whether a packet of that kind, and with that name if it is an extension's, is answered.
    pub fn check(&self, packet: u8, extension: &[u8]) -> Result<(), Refusal> {
        let kind = KINDS.iter().find(|kind| kind.packet == (packet, extension));
        let kind = kind.ok_or(Refusal::Status(Status::Unsupported))?;
        let named = |list: &Option<Vec<&str>>| list.as_ref().map(|list| list.contains(&kind.name));
        let is_refused = self.read_only && kind.writes
            || named(&self.denied) == Some(true)
            || named(&self.allowed) == Some(false);
        if is_refused { Err(DENIED) } else { Ok(()) }
    }

    /// Whether a file may be opened, which `writes` to it.
    pub fn check_open(&self, writes: bool) -> Result<(), Refusal> {
        if self.read_only && writes { Err(DENIED) } else { Ok(()) }
    }
}

const DENIED: Refusal = Refusal::Status(Status::PermissionDenied);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn permitted(rules: &Rules) -> Vec<&'static str> {
        let permits = |kind: &&Kind| rules.check(kind.packet.0, kind.packet.1).is_ok();
        KINDS.iter().filter(permits).map(|kind| kind.name).collect()
    }

    #[test]
    fn read_only_leaves_what_changes_nothing() {
        let read_only = Rules { read_only: true, ..Rules::default() };
        let left = "open close read lstat fstat opendir readdir realpath stat readlink statvfs fstatvfs limits \
                    expand-path home-directory users-groups-by-id";
        assert_eq!(permitted(&read_only).join(" "), left);
        assert!(read_only.check_open(false).is_ok() && read_only.check_open(true).is_err());
        assert_eq!(permitted(&Rules::default()).len(), KINDS.len());
    }

    #[test]
    fn what_is_denied_is_denied_though_it_is_allowed() {
        let rules = Rules {
            denied: Some(requests("remove,rmdir").unwrap()),
            allowed: Some(requests("remove,open,,copy-data").unwrap()),
            ..Rules::default()
        };
        assert_eq!(permitted(&rules), ["open", "copy-data"]);
        let nothing = Rules { allowed: Some(requests("").unwrap()), ..Rules::default() };
        assert!(permitted(&nothing).is_empty());
    }

    #[test]
    fn a_request_that_has_no_name_is_not_answered_and_a_name_without_a_request_is_an_error() {
        for (packet, extension) in [(99, &b""[..]), (kind::EXTENDED, b"unheard-of"), (kind::OPEN, b"x")] {
            let refusal = Rules::default().check(packet, extension).unwrap_err();
            assert_eq!(refusal.status(), Status::Unsupported);
        }
        for wrong in ["remov", "Remove", "remove rmdir", "posix-rename@openssh.com"] {
            assert!(requests(wrong).is_err(), "{wrong}");
        }
    }
}
