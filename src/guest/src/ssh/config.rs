//! What PID 1 says, understood.

use std::io;

use sparks_proto::SshServer;
use sparks_ssh::keys::{self, AuthorizedKey};
use sparks_ssh::transport::{PrivateKey, PublicKey};

use crate::log;

/// Why it can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Standard input.
    #[error("what PID 1 says cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Its JSON.
    #[error("what PID 1 says cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The seed of the host key.
    #[error("the seed of the host key is not 32 bytes in hex")]
    HostKey,
}

/// Reads it from standard input.
///
/// # Errors
/// [`ConfigError`].
pub fn read() -> Result<SshServer, ConfigError> {
    Ok(serde_json::from_slice(&io::read_to_string(io::stdin())?.into_bytes())?)
}

/// The host's key.
///
/// # Errors
/// [`ConfigError::HostKey`].
pub fn host_key(server: &SshServer) -> Result<PrivateKey, ConfigError> {
    let seed = seed(&server.host_key).ok_or(ConfigError::HostKey)?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    Ok(PrivateKey::from(pair))
}

fn seed(hex: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(seed)
}

/// Lines of authorized_keys; one that can't be understood is said in the log and lets nobody in.
pub fn authorized(lines: &[String], what: &str) -> Vec<AuthorizedKey> {
    let mut keys = Vec::new();
    for line in lines {
        for (_, parsed) in keys::parse(line) {
            match parsed {
                Ok(key) => keys.push(key),
                Err(error) => log::line(format_args!("ssh: a line of {what} is left out: {error}")),
            }
        }
    }
    keys
}

/// Bare public keys.
pub fn public_keys(lines: &[String], what: &str) -> Vec<PublicKey> {
    authorized(lines, what).into_iter().map(|line| line.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_32_bytes_in_hex() {
        assert_eq!(seed(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0f".repeat(33), &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(seed(wrong), None, "{wrong}");
        }
    }
}
