//! Where a session begins: `-d`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::users::{self, UserError};

/// Why that can't be told.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `~user` of nobody.
    #[error("the directory to begin in cannot be told: {0}")]
    User(#[from] UserError),
    /// As `%x`.
    #[error("the directory to begin in has a % before something else than d, u and %")]
    Token,
    /// Nobody has said who this is.
    #[error("the directory to begin in cannot be told, because {0} is not set")]
    Variable(&'static str),
}

/// Of a user's directory, all that its name may depend on.
struct Person {
    name: OsString,
    home: OsString,
}

/// What sftp-server(8) makes of `-d`: a leading `~` is a home directory, as are `%d` and, by its name, the user `%u`.
pub fn directory(pattern: &OsStr) -> Result<PathBuf, StartError> {
    let variable = |name| env::var_os(name).ok_or(StartError::Variable(name));
    // The session has set both to those of the login, whose number another user may have as well.
    let person = Person { name: variable("USER")?, home: variable("HOME")? };
    person.expand(pattern)
}

impl Person {
    fn expand(&self, pattern: &OsStr) -> Result<PathBuf, StartError> {
        let (mut path, rest) = self.tilde(pattern.as_bytes())?;
        let mut bytes = rest.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => path.extend(self.token(bytes.next())?),
                byte => path.push(*byte),
            }
        }
        Ok(OsString::from_vec(path).into())
    }

    /// A home directory, and what comes after it.
    fn tilde<'a>(&self, pattern: &'a [u8]) -> Result<(Vec<u8>, &'a [u8]), StartError> {
        let Some(after) = pattern.strip_prefix(b"~") else { return Ok((Vec::new(), pattern)) };
        let end = after.iter().position(|byte| *byte == b'/').unwrap_or(after.len());
        let home = match &after[..end] {
            b"" => self.home.as_bytes().to_vec(),
            name => users::by_name(&String::from_utf8_lossy(name))?.home.into_bytes(),
        };
        Ok((home, &after[end..]))
    }

    fn token(&self, token: Option<&u8>) -> Result<&[u8], StartError> {
        match token {
            Some(b'%') => Ok(b"%"),
            Some(b'd') => Ok(self.home.as_bytes()),
            Some(b'u') => Ok(self.name.as_bytes()),
            _ => Err(StartError::Token),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_for_the_home_and_the_name_of_who_logged_in() {
        let person = Person { name: "me".into(), home: "/home/me".into() };
        for (pattern, directory) in [
            ("/srv/%u/%%", "/srv/me/%"),
            ("%d/in", "/home/me/in"),
            ("~", "/home/me"),
            ("~/in", "/home/me/in"),
            ("in/~", "in/~"),
        ] {
            assert_eq!(person.expand(OsStr::new(pattern)).unwrap(), PathBuf::from(directory), "{pattern}");
        }
        for wrong in ["%", "/%x", "~no-such-user/x"] {
            assert!(person.expand(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
