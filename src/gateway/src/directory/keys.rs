//! The keys that may enter the Sparks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sparks_api::Spark;
use sparks_ssh::{
    keys::{self, AuthorizedKey},
    transport::{HashAlg, PublicKey},
};

use super::Key;

/// SHA-256 over a public key.
pub type Fingerprint = [u8; 32];

/// The fingerprint of a key.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> Fingerprint {
    let mut bytes = [0; 32];
    let digest = key.fingerprint(HashAlg::Sha256);
    bytes.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    bytes
}

/// A Spark and the keys that may enter it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The Spark.
    pub spark: Arc<Spark>,
    /// What its lines of authorized_keys say; lines that can't be read are left out.
    pub keys: Arc<[AuthorizedKey]>,
}

impl Entry {
    /// Reads the lines of a Spark, or takes them from its `old` state when they are the same.
    #[must_use]
    pub fn new(spark: Spark, old: Option<&Self>) -> Self {
        let same = old.filter(|old| lines(&old.spark) == lines(&spark)).map(|old| old.keys.clone());
        let keys = same.unwrap_or_else(|| read(lines(&spark)));
        Self { spark: Arc::new(spark), keys }
    }
}

fn lines(spark: &Spark) -> &[String] {
    let ssh = spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    ssh.map(|ssh| ssh.authorized_keys.as_slice()).unwrap_or_default()
}

fn read(lines: &[String]) -> Arc<[AuthorizedKey]> {
    lines.iter().flat_map(|text| keys::parse(text)).filter_map(|(_, key)| key.ok()).collect()
}

/// In which ways a key is trusted by any Spark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// It may enter.
    pub login: bool,
    /// The certificates that it signed may.
    pub authority: bool,
}

/// Which Sparks trust a key.
#[derive(Default)]
pub struct Trusted {
    logins: HashMap<Fingerprint, HashSet<Key>>,
    authorities: HashMap<Fingerprint, HashSet<Key>>,
}

impl Trusted {
    /// The keys of a Spark have changed.
    pub fn change(&mut self, key: &Key, old: Option<&Entry>, new: Option<&Entry>) {
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(&old.keys, &new.keys)
        {
            return;
        }
        for line in old.iter().flat_map(|entry| entry.keys.iter()) {
            let (map, print) = (self.map(line), fingerprint(&line.key));
            if let Some(sparks) = map.get_mut(&print) {
                sparks.remove(key);
                if sparks.is_empty() {
                    map.remove(&print);
                }
            }
        }
        for line in new.iter().flat_map(|entry| entry.keys.iter()) {
            self.map(line).entry(fingerprint(&line.key)).or_default().insert(key.clone());
        }
    }

    fn map(&mut self, line: &AuthorizedKey) -> &mut HashMap<Fingerprint, HashSet<Key>> {
        if line.options.cert_authority { &mut self.authorities } else { &mut self.logins }
    }

    /// In which ways any Spark trusts this key.
    pub fn get(&self, key: &Fingerprint) -> Trust {
        Trust { login: self.logins.contains_key(key), authority: self.authorities.contains_key(key) }
    }
}
