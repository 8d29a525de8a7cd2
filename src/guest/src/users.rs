//! Users of the Spark's root, read from its own `/etc/passwd` and `/etc/group`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Largest user database that is read.
const MAX_DATABASE: u64 = 4 << 20;

/// A user that a process can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, or the number of a user that has none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
    /// Login shell, if the database names one.
    pub shell: Option<String>,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Not in the database.
    #[error("there is no user `{0}` in the Spark's /etc/passwd; create it there or give a numeric uid[:gid]")]
    Unknown(String),
    /// Looks like numbers, and isn't.
    #[error("`{0}` is no user; give a name or a numeric uid[:gid]")]
    Malformed(String),
    /// The database can't be read.
    #[error("the Spark's {path} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Looks up `spec`, a name or `uid[:gid]`, in the root that the caller stands in; root when empty.
///
/// # Errors
/// [`UserError`].
pub fn load(spec: Option<&str>) -> Result<User, UserError> {
    find(spec, &database("/etc/passwd")?, &database("/etc/group")?)
}

/// Looks up a user by its name alone, as a login does: no numbers, no default.
///
/// # Errors
/// [`UserError`].
pub fn by_name(name: &str) -> Result<User, UserError> {
    named(name, &database("/etc/passwd")?, &database("/etc/group")?)
}

/// The text of a user database; empty when the image has none.
///
/// # Errors
/// [`UserError::Unreadable`].
pub fn database(path: &'static str) -> Result<String, UserError> {
    match small_file(Path::new(path), MAX_DATABASE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(UserError::Unreadable { path, source }),
    }
}

/// Reads a file that the Spark's user wrote: only a regular one, and no more than `most` bytes of it, because a FIFO
/// must not hang who reads it.
///
/// # Errors
/// The kernel's, and `InvalidInput` for what is no regular file.
pub fn small_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looks up `spec` in the text of a passwd and a group database.
///
/// As in OCI images, a uid that the database doesn't know has group 0 unless one is given, and `/` as its home; and
/// `root` is known without a database.
fn find(spec: Option<&str>, passwd: &str, group: &str) -> Result<User, UserError> {
    let spec = spec.filter(|spec| !spec.is_empty()).unwrap_or("root");
    if !spec.starts_with(|c: char| c.is_ascii_digit()) {
        return named(spec, passwd, group);
    }
    let malformed = || UserError::Malformed(spec.into());
    let (uid, gid) = match spec.split_once(':') {
        Some((uid, gid)) => (uid, Some(id(gid).ok_or_else(malformed)?)),
        None => (spec, None),
    };
    let uid = id(uid).ok_or_else(malformed)?;
    Ok(match entries(passwd).find(|entry| entry.uid == uid) {
        Some(entry) => entry.user(gid, group),
        None if uid == 0 && gid.is_none() => bare_root(),
        None => {
            let gid = gid.unwrap_or(0);
            User { name: uid.to_string(), uid, gid, groups: vec![gid], home: "/".into(), shell: None }
        }
    })
}

/// Looks up a name in the text of a passwd and a group database.
fn named(name: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    match entries(passwd).find(|entry| entry.name == name) {
        Some(entry) => Ok(entry.user(None, group)),
        None if name == "root" => Ok(bare_root()),
        None => Err(UserError::Unknown(name.into())),
    }
}

fn bare_root() -> User {
    User { name: "root".into(), uid: 0, gid: 0, groups: vec![0], home: "/root".into(), shell: None }
}

/// An id; `u32::MAX` means "unchanged" to the kernel and is none.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// One line of a passwd database.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

impl Entry<'_> {
    fn user(&self, gid: Option<u32>, group: &str) -> User {
        let primary = gid.unwrap_or(self.gid);
        let mut groups = vec![primary];
        // A group that was asked for by number replaces the user's own ones.
        if gid.is_none() {
            groups.extend(memberships(self.name, group).filter(|gid| *gid != primary));
            groups.dedup();
        }
        User {
            name: self.name.into(),
            uid: self.uid,
            gid: primary,
            groups,
            home: if self.home.is_empty() { "/".into() } else { self.home.into() },
            shell: Some(self.shell).filter(|shell| !shell.is_empty()).map(Into::into),
        }
    }
}

/// The well-formed lines of a passwd database; others are skipped, as the C library does.
fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(Entry { name, uid, gid, home: fields.nth(1)?, shell: fields.next().unwrap_or("") })
    })
}

/// The groups that list `name` as a member.
fn memberships(name: &str, group: &str) -> impl Iterator<Item = u32> {
    group.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let gid = id(fields.nth(2)?)?;
        fields.next()?.split(',').any(|member| member.trim() == name).then_some(gid)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
# a comment
broken:x:one:1
postgres:x:105:110:PostgreSQL,,,:/var/lib/postgresql:/bin/bash
app:x:1000:1000::/home/app:
";
    const GROUP: &str = "\
root:x:0:
ssl-cert:x:109:postgres
postgres:x:110:postgres
video:x:44:app, postgres
other:x:7:postgresql
";

    #[test]
    fn a_name_gives_ids_home_shell_and_every_group_that_lists_it() {
        let user = find(Some("postgres"), PASSWD, GROUP).unwrap();
        assert_eq!((user.uid, user.gid), (105, 110));
        assert_eq!(user.groups, [110, 109, 44]);
        assert_eq!(user.home, "/var/lib/postgresql");
        assert_eq!(user.shell.as_deref(), Some("/bin/bash"));
    }

    #[test]
    fn nobody_in_particular_is_root_even_without_a_database() {
        assert_eq!(find(None, PASSWD, GROUP).unwrap().uid, 0);
        assert_eq!(find(Some(""), "", "").unwrap(), bare_root());
        assert_eq!(find(Some("0"), "", "").unwrap(), bare_root());
    }

    #[test]
    fn a_known_uid_is_its_user() {
        let user = find(Some("1000"), PASSWD, GROUP).unwrap();
        assert_eq!((user.name.as_str(), user.gid, user.home.as_str()), ("app", 1000, "/home/app"));
        assert_eq!(user.groups, [1000, 44]);
        assert_eq!(user.shell, None);
    }

    #[test]
    fn an_unknown_uid_has_group_zero_unless_one_is_given() {
        let user = find(Some("4711"), PASSWD, GROUP).unwrap();
        assert_eq!((user.uid, user.gid, user.name.as_str(), user.home.as_str()), (4711, 0, "4711", "/"));
        assert_eq!(find(Some("4711:12"), PASSWD, GROUP).unwrap().groups, [12]);
    }

    #[test]
    fn a_given_group_replaces_the_users_own_ones() {
        assert_eq!(find(Some("105:5"), PASSWD, GROUP).unwrap().groups, [5]);
    }

    #[test]
    fn an_unknown_name_gets_a_sentence() {
        let error = find(Some("nobody-here"), PASSWD, GROUP).unwrap_err();
        assert!(error.to_string().contains("there is no user `nobody-here`"), "{error}");
        assert!(matches!(find(Some("broken"), PASSWD, GROUP), Err(UserError::Unknown(_))));
    }

    #[test]
    fn a_login_is_a_name_and_nothing_else() {
        assert_eq!(named("app", PASSWD, GROUP).unwrap().uid, 1000);
        for wrong in ["", "0", "1000", "1000:0", "# a comment", "app:x", "nobody-here"] {
            assert!(named(wrong, PASSWD, GROUP).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_regular_file_is_read_and_no_more_than_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, file) = (folder.path().join("fifo"), folder.path().join("file"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(small_file(&fifo, 9).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(small_file(&file, 4).unwrap(), b"0123");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for wrong in ["1:", "1:x", "4294967295", "99999999999", "1:2:3", "1x"] {
            assert!(matches!(find(Some(wrong), PASSWD, GROUP), Err(UserError::Malformed(_))), "{wrong}");
        }
    }
}
