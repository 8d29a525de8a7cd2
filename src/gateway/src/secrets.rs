//! The keys of the SSH server, from the Secret that the controller makes.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use sparks_ssh::transport::{Certificate, PrivateKey, ssh_key};

/// Name of the Secret.
pub const SECRET: &str = "sparks-gateway";
/// Key in it: what the gateway logs in to guests with.
pub const LOGIN_KEY: &str = "gateway_ed25519_key";
/// Beginning of the keys in it that clients see.
const HOST_KEY: &str = "ssh_host_";
/// Pause before it is looked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// The keys of the SSH server.
#[derive(Clone, Debug)]
pub struct Keys {
    /// What clients see.
    pub host: Vec<PrivateKey>,
    /// Certificates of these, where an administrator has put them there.
    pub certificates: Vec<Certificate>,
    /// What the gateway logs in to guests with.
    pub login: PrivateKey,
}

/// A Secret without the keys.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A key is missing.
    #[error("the Secret {SECRET} has no {0}: delete the Secret, and the controller makes it anew")]
    Missing(&'static str),
    /// A key can't be read.
    #[error("{name} in the Secret {SECRET} can't be read: {source}")]
    Malformed {
        /// Name of the key.
        name: String,
        /// What is wrong with it.
        source: ssh_key::Error,
    },
}

/// Waits for the Secret, which the controller makes when it starts for the first time.
///
/// # Errors
/// [`SecretError`] when it is there and can't be used.
pub async fn wait(client: Client, namespace: &str) -> Result<Keys, SecretError> {
    let api = Api::<Secret>::namespaced(client, namespace);
    loop {
        match api.get_opt(SECRET).await {
            Ok(Some(secret)) => return read(&secret.data.unwrap_or_default()),
            Ok(None) => tracing::info!("waiting for the Secret {SECRET}, which the controller makes"),
            Err(error) => tracing::warn!(%error, "the Secret {SECRET} can't be read; it is tried again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn read(data: &BTreeMap<String, ByteString>) -> Result<Keys, SecretError> {
    let mut host = Vec::new();
    let mut certificates = Vec::new();
    for (name, value) in data.iter().filter(|(name, _)| name.starts_with(HOST_KEY)) {
        let malformed = |source| SecretError::Malformed { name: name.clone(), source };
        if name.ends_with("_key") {
            host.push(PrivateKey::from_openssh(&value.0).map_err(malformed)?);
        } else if name.ends_with("-cert.pub") {
            let text = String::from_utf8_lossy(&value.0);
            certificates.push(Certificate::from_openssh(text.trim()).map_err(malformed)?);
        }
    }
    if host.is_empty() {
        return Err(SecretError::Missing("ssh_host_ed25519_key"));
    }
    let login = data.get(LOGIN_KEY).ok_or(SecretError::Missing(LOGIN_KEY))?;
    let malformed = |source| SecretError::Malformed { name: LOGIN_KEY.into(), source };
    let login = PrivateKey::from_openssh(&login.0).map_err(malformed)?;
    Ok(Keys { host, certificates, login })
}
