//! The key to which the controller seals a Spark's secrets, so that only this node can read them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crypto_box::{SecretKey, aead::OsRng};

/// Why the key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("the secret key {path} can't be read or made: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is no key.
    #[error(
        "{0} is no X25519 key of 32 bytes; remove it and restart the agent, and secrets are sealed to a new one"
    )]
    Damaged(PathBuf),
}

/// Why something sealed can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not hexadecimal digits.
    #[error(
        "what is sealed for this node could not be opened, because it isn't hexadecimal; it is sealed again at the next start"
    )]
    Encoding,
    /// Sealed to another key, or changed on its way.
    #[error("what is sealed could not be opened with this node's key; it is sealed again at the next start")]
    Closed,
    /// Opened, and not what was agreed on.
    #[error(
        "what was sealed is opened and is not what was agreed on; the controller and the node agent may be of different versions"
    )]
    Content,
}

/// The agent's X25519 key pair.
pub struct Key(SecretKey);

impl Key {
    /// Reads the key, or makes it at the first start.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.into(), source };
        match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(failed)?;
                SecretKey::from_slice(&bytes).map(Self).map_err(|_| KeyError::Damaged(path.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Written aside and renamed, so that a crash leaves no half key behind.
    fn create(path: &Path) -> io::Result<Self> {
        let key = SecretKey::generate(&mut OsRng);
        let aside = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&key.to_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        Ok(Self(key))
    }

    /// The public key, in hexadecimal digits.
    pub fn public_hex(&self) -> String {
        to_hex(self.0.public_key().as_bytes())
    }

    /// Opens a sealed list of names and values.
    pub fn open(&self, sealed: &str) -> Result<Vec<(String, String)>, SealError> {
        serde_json::from_slice(&self.unseal(sealed)?).map_err(|_| SealError::Content)
    }

    /// Opens a sealed key of 32 bytes; in hex.
    pub fn open_key(&self, sealed: &str) -> Result<String, SealError> {
        let key: [u8; 32] = self.unseal(sealed)?.try_into().map_err(|_| SealError::Content)?;
        Ok(to_hex(&key))
    }

    fn unseal(&self, sealed: &str) -> Result<Vec<u8>, SealError> {
        let bytes = from_hex(sealed).ok_or(SealError::Encoding)?;
        self.0.unseal(&bytes).map_err(|_| SealError::Closed)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sealed(key: &Key, plain: &[u8]) -> String {
        to_hex(&key.0.public_key().seal(&mut OsRng, plain).unwrap())
    }

    #[test]
    fn the_key_survives_a_restart_and_is_only_the_agents_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let first = Key::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Key::load_or_create(&path).unwrap();
        assert_eq!(first.public_hex(), second.public_hex());
        assert_eq!(second.open(&sealed(&first, br#"[["A","1"]]"#)).unwrap(), [("A".into(), "1".into())]);
    }

    #[test]
    fn a_damaged_key_is_not_replaced_silently() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(Key::load_or_create(&path), Err(KeyError::Damaged(_))));
    }

    #[test]
    fn what_cannot_be_opened_says_so() {
        let (key, other) = (Key(SecretKey::generate(&mut OsRng)), Key(SecretKey::generate(&mut OsRng)));
        assert!(matches!(key.open("zz"), Err(SealError::Encoding)));
        assert!(matches!(key.open("abc"), Err(SealError::Encoding)));
        assert!(matches!(key.open(&sealed(&other, b"[]")), Err(SealError::Closed)));
        assert!(matches!(key.open(&sealed(&key, b"{}")), Err(SealError::Content)));
        assert!(matches!(key.open_key(&sealed(&key, b"short")), Err(SealError::Content)));
    }

    #[test]
    fn a_key_comes_out_in_hexadecimal_digits() {
        let key = Key(SecretKey::generate(&mut OsRng));
        assert_eq!(key.open_key(&sealed(&key, &[0xab; 32])).unwrap(), "ab".repeat(32));
    }
}
