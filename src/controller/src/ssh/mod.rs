//! SSH: the installation's keys, and the keys that may enter a Spark.

mod found;
mod keys;
mod lines;
mod secrets;
mod sources;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Client, api::Api};

pub use keys::Keys;
pub use secrets::SecretError;
pub use sources::Sources;

/// How often the installation's keys are read again: whoever replaces one need not restart the controller.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Where the installation's keys are read.
pub struct Origin {
    api: Api<Secret>,
    user_ca_file: Option<PathBuf>,
}

impl Origin {
    /// The Secrets of the installation's namespace, and a file with certificate authorities.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, user_ca_file: Option<PathBuf>) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), user_ca_file }
    }

    /// Reads the keys, having made what is missing. Only the leader may call it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn read(&self) -> Result<Keys, SecretError> {
        read(&self.api, self.user_ca_file.as_ref()).await
    }

    /// Reads the keys again and again; `changed` is called when they are others.
    pub async fn follow(&self, installation: &Installation, changed: impl Fn()) {
        loop {
            tokio::time::sleep(READ_AGAIN).await;
            match self.read().await {
                Ok(keys) if keys != *installation.keys() => {
                    tracing::info!("the keys of the installation changed");
                    installation.set(keys);
                    changed();
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the keys of the installation stay as they were"),
            }
        }
    }
}

/// The installation's keys as they were read last.
pub struct Installation(RwLock<Arc<Keys>>);

impl Installation {
    /// With these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self(RwLock::new(Arc::new(keys)))
    }

    /// The keys now.
    pub fn keys(&self) -> Arc<Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

async fn read(api: &Api<Secret>, user_ca_file: Option<&PathBuf>) -> Result<Keys, SecretError> {
    let mut keys = secrets::load(api).await?;
    if let Some(path) = user_ca_file {
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|source| SecretError::File { path: path.clone(), source })?;
        let (lines, bad) = lines::keys(&text);
        if bad > 0 {
            tracing::warn!(file = %path.display(), bad, "lines that are no public keys are left out");
        }
        keys.user_ca = lines;
    }
    Ok(keys)
}
