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
        Ok(read) => Ok(read.key),
        Err(error) => Err(AuthorityError::Line { path: path.into(), line, reason: error.to_string() }),
    };
    keys::parse(&text).map(key).collect()
}
