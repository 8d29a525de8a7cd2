//! Whether an account is open to whoever has proven to be its owner: as sshd decides in auth.c's allowed_user(), and as
//! pam_unix(8) and pam_nologin(8) do where sshd asks them, which Debian's does. So a password that is locked keeps out
//! nobody who has a key.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::launch;
use crate::users::{self, User, UserError};

/// While there is such a file, root alone logs in.
const NOLOGIN: &str = "/etc/nologin";

/// So much of it is told; OpenSSH's client shows no more than 400 bytes.
const LONGEST_NOTICE: u64 = 1024;

/// Seconds of a day of shadow(5).
const DAY: u64 = 86_400;

/// Why nobody logs in as that user, as the client is told.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// Not in the database.
    #[error("there is no user {0:?} in this Spark; useradd or adduser makes one")]
    Unknown(String),
    /// A database can't be read.
    #[error(transparent)]
    Database(UserError),
    /// Its last day has come.
    #[error("the account {0:?} has expired; `usermod -e '' {0}` opens it")]
    Expired(String),
    /// Its password has not been changed for too long.
    #[error(
        "the account {0:?} has an expired password and was inactive for too long; `chage -I -1 {0}` opens it"
    )]
    Inactive(String),
    /// It has a shell that can't be executed.
    #[error(
        "the shell of {user:?}, {shell:?}, is no program of this Spark; `usermod -s /bin/sh {user}` gives it another"
    )]
    NoShell {
        /// Whose.
        user: String,
        /// Which.
        shell: String,
    },
    /// All are closed but root's.
    #[error("this Spark has an /etc/nologin, so that root alone may log in{0}")]
    NoLogins(String),
}

/// The user of that name, if somebody may log in as it.
///
/// # Errors
/// [`Closed`].
pub fn open(name: &str) -> Result<User, Closed> {
    let user = users::by_name(name).map_err(|error| match error {
        UserError::Unknown(name) => Closed::Unknown(name),
        other => Closed::Database(other),
    })?;
    aging(&user.name, &shadow()?, today())?;
    has_shell(&user, &launch::is_program)?;
    if user.uid != 0
        && let Some(notice) = notice(Path::new(NOLOGIN))
    {
        return Err(Closed::NoLogins(notice));
    }
    Ok(user)
}

/// The text of the shadow database. Where root itself may not read it, it has no rules, as with getspnam(3).
fn shadow() -> Result<String, Closed> {
    match users::database("/etc/shadow") {
        Err(UserError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(String::new())
        }
        other => other.map_err(Closed::Database),
    }
}

fn today() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (seconds / DAY).cast_signed()
}

/// The dates of shadow(5), as pam_unix's check_shadow_expiry() reads them.
fn aging(name: &str, shadow: &str, today: i64) -> Result<(), Closed> {
    let mut entries = shadow.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let Some(entry) = entries.find(|fields| fields.first() == Some(&name)) else { return Ok(()) };
    // What is empty, negative or no number is not set.
    let day = |at: usize| entry.get(at)?.parse::<i64>().ok().filter(|day| *day >= 0);
    let (changed, longest, inactive, expires) = (day(2), day(4), day(6), day(7));
    if expires.is_some_and(|last| today >= last) {
        return Err(Closed::Expired(name.into()));
    }
    // 0 asks for a new password, and is no date.
    if let (Some(changed @ 1..), Some(longest), Some(inactive)) = (changed, longest, inactive)
        && today.saturating_sub(changed) > longest.saturating_add(inactive)
    {
        return Err(Closed::Inactive(name.into()));
    }
    Ok(())
}

/// Root gets another shell where the one that passwd names is missing: who has nothing but SSH could not mend that.
fn has_shell(user: &User, is_program: &dyn Fn(&Path) -> bool) -> Result<(), Closed> {
    match &user.shell {
        Some(shell) if user.uid != 0 && !is_program(Path::new(shell)) => {
            Err(Closed::NoShell { user: user.name.clone(), shell: shell.clone() })
        }
        _ => Ok(()),
    }
}

/// What is said while nobody may log in; `None` while they may.
fn notice(path: &Path) -> Option<String> {
    let text = match users::small_file(path, LONGEST_NOTICE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => Vec::new(),
    };
    let text = String::from_utf8_lossy(&text);
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    Some(Some(text.trim()).filter(|text| !text.is_empty()).map_or(String::new(), |text| format!(": {text}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bob(rest: &str) -> Result<(), Closed> {
        aging("bob", &format!("root:*:1:0:1:7:1:1:\nbob:{rest}\n"), 20_000)
    }

    #[test]
    fn an_account_is_closed_from_its_day_of_expiry_on() {
        for (expires, is_open) in [("", true), ("-1", true), ("20001", true), ("20000", false), ("1", false)]
        {
            let checked = bob(&format!("*:19000:0:99999:7::{expires}:"));
            assert_eq!(checked.is_ok(), is_open, "{expires}");
            assert!(is_open || matches!(checked, Err(Closed::Expired(_))));
        }
    }

    #[test]
    fn an_account_is_closed_once_its_password_has_expired_and_the_days_of_grace_are_over() {
        for (changed, longest, inactive, is_open) in [
            ("19960", "30", "10", true),
            ("19959", "30", "10", false),
            ("19000", "30", "", true),
            ("19000", "", "10", true),
            ("", "30", "10", true),
            ("0", "30", "10", true),
            ("20001", "0", "0", true),
        ] {
            let checked = bob(&format!("x:{changed}:0:{longest}:7:{inactive}::"));
            assert_eq!(checked.is_ok(), is_open, "{changed} {longest} {inactive}");
            assert!(is_open || matches!(checked, Err(Closed::Inactive(_))));
        }
    }

    #[test]
    fn a_locked_password_a_missing_line_and_what_is_no_date_close_no_account() {
        let largest = i64::MAX;
        let strange = format!("*:{largest}:0:{largest}:7:{largest}:99999999999999999999:");
        for rest in ["!:19000:0:99999:7:::", "!*", "", "*:x:x:x:x:x:x:x", &strange] {
            assert!(bob(rest).is_ok(), "{rest}");
        }
        assert!(aging("carol", "bob:*:1:0:1:7:1:1:\n\u{0}:::\n:\n", 20_000).is_ok());
    }

    #[test]
    fn a_shell_that_is_no_program_closes_every_account_but_roots() {
        let user = |uid, shell: Option<&str>| User {
            name: "bob".into(),
            uid,
            gid: 1,
            groups: vec![1],
            home: "/".into(),
            shell: shell.map(Into::into),
        };
        let is_program = |path: &Path| path == Path::new("/bin/zsh");
        for (uid, shell, is_open) in [
            (1, Some("/bin/zsh"), true),
            (1, None, true),
            (1, Some("/bin/bash"), false),
            (0, Some("/bin/bash"), true),
        ] {
            assert_eq!(has_shell(&user(uid, shell), &is_program).is_ok(), is_open, "{uid} {shell:?}");
        }
    }

    #[test]
    fn a_notice_is_short_and_without_control_characters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nologin");
        assert_eq!(notice(&path), None);
        for (text, told) in
            [(&b""[..], ""), (b" \n", ""), (b"back \x1b]0;x\x07at\nnoon\r\n", ": back ]0;xat\nnoon")]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(notice(&path).unwrap(), told);
        }
        std::fs::write(&path, [b'x'; 9000]).unwrap();
        assert!(notice(&path).unwrap().len() < 1100);
        // Whatever it is, it is there.
        assert_eq!(notice(folder.path()).unwrap(), "");
    }
}
