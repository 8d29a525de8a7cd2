//! SHA-256 of a file, made while it is written.

use std::fmt;

use ring::digest;

/// The hash of all that was added.
#[derive(Clone)]
pub struct Hash(digest::Context);

impl Default for Hash {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash {
    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hex, were these the last bytes.
    pub fn ending_with(&self, bytes: &[u8]) -> String {
        let mut whole = self.0.clone();
        whole.update(bytes);
        whole.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}
