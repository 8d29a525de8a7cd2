//! What the SSH server needs of the directory.

use crate::directory::{Awake, Directory, Entry, Fingerprint, Key, State, Trust, WakeError, Wanted, state};

/// What the SSH server needs of the directory.
pub trait Sparks: Clone + Send + Sync + 'static {
    /// A Spark, with the keys that may enter it.
    fn entry(&self, key: &Key) -> Option<Entry>;
    /// Whether any Spark trusts a key.
    fn trusts(&self, key: &Fingerprint) -> Trust;
    /// The pod of a Spark that is up. Wakes nothing.
    fn up(&self, key: &Key) -> Option<Awake>;
    /// Waits for a pod to connect to, and wakes the Spark for it.
    fn awake(&self, key: &Key) -> impl Future<Output = Result<Awake, WakeError>> + Send;
    /// Somebody has come.
    fn active(&self, key: &Key);
}

impl Sparks for Directory {
    fn entry(&self, key: &Key) -> Option<Entry> {
        Directory::entry(self, key)
    }

    fn trusts(&self, key: &Fingerprint) -> Trust {
        Directory::trusts(self, key)
    }

    fn up(&self, key: &Key) -> Option<Awake> {
        let spark = self.entry(key)?.spark;
        match state(&spark, Wanted::Address) {
            State::Up(ip) => Some(Awake { spark, ip, woken: false }),
            _ => None,
        }
    }

    async fn awake(&self, key: &Key) -> Result<Awake, WakeError> {
        Directory::awake(self, &key.namespace, &key.name).await
    }

    fn active(&self, key: &Key) {
        Directory::active(self, &key.namespace, &key.name);
    }
}
