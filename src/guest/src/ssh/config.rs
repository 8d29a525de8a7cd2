//! What PID 1 says, understood.

use std::io;

use sparks_proto::SshServer;
use sparks_ssh::keys::{self, AuthorizedKey, LineError};
use sparks_ssh::transport::ssh_key::private::Ed25519Keypair;
use sparks_ssh::transport::{Algorithm, PrivateKey, PublicKey};

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
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
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
    understood(lines, what, Ok)
}

/// Public keys of which none may have options, as in sshd's TrustedUserCAKeys.
pub fn public_keys(lines: &[String], what: &str) -> Vec<PublicKey> {
    understood(lines, what, AuthorizedKey::bare)
}

fn understood<T>(
    lines: &[String],
    what: &str,
    as_wanted: impl Fn(AuthorizedKey) -> Result<T, LineError>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (_, parsed) in lines.iter().flat_map(|line| keys::parse(line)) {
        match parsed.and_then(&as_wanted) {
            Ok(one) => all.push(one),
            Err(error) => log::line(format_args!("ssh: a line of {what} is left out: {error}")),
        }
    }
    all
}

/// The only key of a line that has nothing before it.
pub fn bare_key(line: &str) -> Option<PublicKey> {
    let line = line.trim();
    if line.contains(char::is_control) {
        return None;
    }
    // Of what kind nobody knows, nobody can prove to have it.
    PublicKey::from_openssh(line).ok().filter(|key| !matches!(key.algorithm(), Algorithm::Other(_)))
}

/// Keys of which each line has one and nothing else. What is none lets nobody in.
pub fn bare_keys(lines: &[String]) -> Vec<PublicKey> {
    lines.iter().filter_map(|line| bare_key(line)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_bare_key_is_a_key_and_perhaps_a_comment() {
        let key = bare_key(KEY).unwrap();
        assert_eq!(key.to_openssh().unwrap(), KEY);
        assert_eq!(bare_key(&format!("{KEY} spark me\n")).unwrap().key_data(), key.key_data());
    }

    #[test]
    fn what_is_more_or_less_than_a_key_is_no_bare_key() {
        let options = ["no-pty", "command=\"x\"", "cert-authority", "from=\"*\""];
        let with_options = options.map(|option| format!("{option} {KEY}"));
        let two = [format!("{KEY}\n{KEY}"), format!("#\n{KEY}"), format!("{KEY}\r{KEY}")];
        let broken =
            ["", "#", "ssh-ed25519", "AAAA", &KEY[..KEY.len() - 4], &KEY.replace("ssh-ed25519", "ssh-rsa")];
        let unknown = "new@example.com AAAAD25ld0BleGFtcGxlLmNvbQAAAAR0ZXN0".to_owned();
        let all = with_options.into_iter().chain(two).chain(broken.map(str::to_owned)).chain([unknown]);
        for line in all {
            assert!(bare_key(&line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_key_that_may_do_everything_has_no_options_that_would_seem_to_hold() {
        let lines = [format!("from=\"10.0.0.0/8\" {KEY}"), format!("cert-authority {KEY}"), KEY.to_owned()];
        assert_eq!(public_keys(&lines, "a test").len(), 1);
        assert_eq!(authorized(&lines, "a test").len(), 3);
    }

    #[test]
    fn a_seed_is_32_bytes_in_hex() {
        assert_eq!(seed(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0f".repeat(33), &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(seed(wrong), None, "{wrong}");
        }
    }
}
