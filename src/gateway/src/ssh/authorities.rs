//! The installation's user certificate authorities.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sparks_ssh::{keys, transport::PublicKey};

/// A file of public keys that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// No such file, or no right to it.
    #[error("the file of user certificate authorities {path} can't be read: {source}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no public key.
    #[error("line {line} of {path} is no public key: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A line that restricts its key in a way that nothing here would look at.
    #[error(
        "line {line} of {path} has options before the key: an authority of the installation can have none but cert-authority"
    )]
    Options {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
}

/// The keys in a file, which may be changed at any time: it is a ConfigMap.
#[derive(Default)]
pub struct Authorities {
    path: Option<PathBuf>,
    read: Mutex<(Option<SystemTime>, Arc<[PublicKey]>)>,
}

impl Authorities {
    /// Those of a file; none without one.
    ///
    /// # Errors
    /// [`AuthorityError`] when the file can't be understood.
    pub fn new(path: Option<PathBuf>) -> Result<Self, AuthorityError> {
        let keys = path.as_deref().map(read).transpose()?;
        let changed = path.as_deref().and_then(changed);
        Ok(Self { path, read: Mutex::new((changed, keys.unwrap_or_default())) })
    }

    /// The keys that are trusted now. A file that can't be understood any more changes nothing.
    pub fn keys(&self) -> Arc<[PublicKey]> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path
            && let now @ Some(_) = changed(path)
            && now != known.0
        {
            known.0 = now;
            match read(path) {
                Ok(keys) => known.1 = keys,
                Err(error) => tracing::warn!(%error, "the user certificate authorities stay as they were"),
            }
        }
        known.1.clone()
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

fn read(path: &Path) -> Result<Arc<[PublicKey]>, AuthorityError> {
    let failed = |source| AuthorityError::Unreadable { path: path.into(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let key = |(line, read): (usize, Result<keys::AuthorizedKey, keys::LineError>)| match read {
        Ok(_) if has_options(&text, line) => Err(AuthorityError::Options { path: path.into(), line }),
        Ok(read) => Ok(read.key),
        Err(error) => Err(AuthorityError::Line { path: path.into(), line, reason: error.to_string() }),
    };
    keys::parse(&text).map(key).collect()
}

/// Whether there is more before the key than that it is an authority's.
fn has_options(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line - 1).unwrap_or_default().trim();
    let said = line.split_once([' ', '\t']).filter(|(first, _)| first.eq_ignore_ascii_case("cert-authority"));
    PublicKey::from_openssh(said.map_or(line, |(_, key)| key.trim())).is_err()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ca@example.com";

    fn authorities(text: &str) -> Result<Authorities, AuthorityError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        Authorities::new(Some(path))
    }

    #[test]
    fn an_authority_may_be_said_to_be_one() {
        let all = authorities(&format!("# ours\n\n{KEY}\n Cert-Authority\t{KEY}\n")).unwrap();
        assert_eq!(all.keys().len(), 2);
    }

    #[test]
    fn a_restriction_that_would_not_be_kept_is_an_error_at_the_start() {
        for options in [
            "from=\"10.0.0.0/8\"",
            "cert-authority,principals=\"ops\"",
            "expiry-time=\"20300101\"",
            "no-pty",
            "no-touch-required",
            "restrict",
            "command=\"id\"",
            "permitopen=\"localhost:80\"",
            "environment=\"A=b\"",
            "cert-authority,from=\"*\"",
        ] {
            let error = authorities(&format!("{KEY}\n{options} {KEY}\n")).err().unwrap().to_string();
            assert!(
                error.contains("line 2 of") && error.contains("none but cert-authority"),
                "{options}: {error}"
            );
        }
        let error = authorities(&format!("unheard-of {KEY}")).err().unwrap().to_string();
        assert!(error.contains("line 1 of") && error.contains("unheard-of"), "{error}");
    }
}
