//! SSH: the installation's keys, and the keys that may enter a Spark.

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
use kube::{Client, ResourceExt, api::Api};
use sparks_plan::spark::{Observed, SshFound};

pub use keys::Keys;
pub use secrets::SecretError;
pub use sources::Sources;

use crate::context::Context;

/// How often the installation's keys are read again: whoever replaces one need not restart the controller.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The installation's keys as they were read last.
pub struct Installation {
    api: Api<Secret>,
    user_ca_file: Option<PathBuf>,
    keys: RwLock<Arc<Keys>>,
}

impl Installation {
    /// Reads the keys, having made what is missing. Only the leader may call it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn load(
        client: &Client,
        namespace: &str,
        user_ca_file: Option<PathBuf>,
    ) -> Result<Self, SecretError> {
        let api = Api::namespaced(client.clone(), namespace);
        let keys = read(&api, user_ca_file.as_ref()).await?;
        Ok(Self { api, user_ca_file, keys: RwLock::new(Arc::new(keys)) })
    }

    /// The keys now.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys again and again; `changed` is called when they are others.
    pub async fn follow(&self, changed: impl Fn()) {
        loop {
            tokio::time::sleep(READ_AGAIN).await;
            match read(&self.api, self.user_ca_file.as_ref()).await {
                Ok(keys) if keys != *self.keys() => {
                    tracing::info!("the keys of the installation changed");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    changed();
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the keys of the installation stay as they were"),
            }
        }
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

/// The keys of this Spark's SSH server.
///
/// # Errors
/// The API server's.
pub async fn found(context: &Context, seen: &Observed) -> Result<SshFound, kube::Error> {
    let keys = context.installation.keys();
    let namespace = seen.spark.namespace().unwrap_or_default();
    let sources = sparks_plan::spark::key_sources(seen);
    let (lines, problem) = sources::read(context, &namespace, &sources).await?;
    Ok(SshFound {
        host_key: keys.host_key(&seen.spark.uid().unwrap_or_default()),
        gateway_keys: keys.gateway.clone(),
        user_ca_keys: keys.user_ca.clone(),
        lines,
        problem,
    })
}
