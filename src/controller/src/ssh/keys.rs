//! The installation's keys, and the host key of every Spark, which is derived from them.

use hmac::{Hmac, KeyInit, Mac};
use ssh_key::{PublicKey, private::Ed25519Keypair, sha2::Sha256};

/// Tells this use of the seed from others.
const PURPOSE: &[u8] = b"ssh-host-key";

/// What the controller needs of the installation's keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    seed: [u8; 32],
    /// Public keys with which the gateway enters.
    pub gateway: Vec<String>,
    /// Public keys of the user certificate authorities.
    pub user_ca: Vec<String>,
}

impl Keys {
    /// No certificate authority yet.
    pub fn new(seed: [u8; 32], gateway: String) -> Self {
        Self { seed, gateway: vec![gateway], user_ca: Vec::new() }
    }

    /// Seed of the Ed25519 host key of the Spark with this uid: nobody else can derive it, and it needs no storing.
    pub fn host_seed(&self, uid: &str) -> [u8; 32] {
        // HMAC fills a short key up with zeros to its block.
        let mut key = [0; 64];
        key[..self.seed.len()].copy_from_slice(&self.seed);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        mac.update(PURPOSE);
        mac.update(uid.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The public half, as in known_hosts.
    pub fn host_key(&self, uid: &str) -> Option<String> {
        let pair = Ed25519Keypair::from_seed(&self.host_seed(uid));
        PublicKey::from(pair.public).to_openssh().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_key_is_the_same_for_ever_and_another_for_every_spark_and_installation() {
        let (one, two) = (Keys::new([1; 32], "g".into()), Keys::new([2; 32], "g".into()));
        let all = [one.host_key("a"), one.host_key("b"), two.host_key("a")].map(Option::unwrap);
        assert_eq!(one.host_key("a").unwrap(), all[0]);
        assert!(
            all[0] != all[1] && all[0] != all[2] && all.iter().all(|key| key.starts_with("ssh-ed25519 AAAA"))
        );
    }

    /// Known hosts of all users break when this changes.
    #[test]
    fn the_derivation_is_hmac_sha256_of_purpose_and_uid() {
        let seed = Keys::new([0; 32], "g".into()).host_seed("uid");
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c2704b15ca8a2e766ba88001aaa9cb3034d744c922f8ebdc33c28ee565f751d4");
    }
}
