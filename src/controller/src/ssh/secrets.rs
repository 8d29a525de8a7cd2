//! The Secrets `sparks-gateway` and `sparks-controller` of the installation: made by the leader where they are missing.
//! Nothing in them is ever replaced; whoever wants a new key deletes the old one.

use std::collections::BTreeMap;

use crypto_box::aead::{OsRng, rand_core::RngCore};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::{Api, Patch};
use serde_json::json;
use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};

use super::keys::Keys;
use crate::{
    api::ApiError,
    kube_api::{MANAGER, params, write},
};

/// What clients see and what the gateway logs in to guests with.
const GATEWAY: &str = "sparks-gateway";
/// What the host keys of Sparks are derived from.
const CONTROLLER: &str = "sparks-controller";
/// Key in [`GATEWAY`].
const HOST_KEY: &str = "ssh_host_ed25519_key";
/// Key in [`GATEWAY`].
const LOGIN_KEY: &str = "gateway_ed25519_key";
/// Key in [`CONTROLLER`].
const SEED: &str = "host_key_seed";
/// Another writer may be faster so often.
const TRIES: usize = 5;

/// Why the installation's keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server refused.
    #[error("the Secret {name} of the installation can't be read or made: {source}")]
    Api {
        /// The Secret.
        name: &'static str,
        /// What it said.
        source: ApiError,
    },
    /// Somebody else writes it all the time.
    #[error("the Secret {0} of the installation is being changed by somebody else")]
    Contended(&'static str),
    /// What is there can't be used.
    #[error("{key} in the Secret {name} is {problem}: remove it, and a new one is made")]
    Unusable {
        /// The Secret.
        name: &'static str,
        /// The key in it.
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The file with the certificate authorities.
    #[error("the user certificate authorities can't be read from {path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Never, for a key that was just made.
    #[error("a key can't be written down: {0}")]
    Encoding(#[from] ssh_key::Error),
}

type Data = BTreeMap<String, ByteString>;
type Make = fn() -> Result<Vec<u8>, SecretError>;

/// Reads both Secrets, having made what is missing.
///
/// # Errors
/// [`SecretError`].
pub async fn load(api: &Api<Secret>) -> Result<Keys, SecretError> {
    let controller = ensure(api, CONTROLLER, &[(SEED, || Ok(random().to_vec()))]).await?;
    let gateway = ensure(api, GATEWAY, &[(HOST_KEY, new_key), (LOGIN_KEY, new_key)]).await?;
    Ok(Keys::new(seed(&controller)?, login(&gateway)?))
}

/// The Secret's data, with all of these.
async fn ensure(api: &Api<Secret>, name: &'static str, wanted: &[(&str, Make)]) -> Result<Data, SecretError> {
    let failed = |source| SecretError::Api { name, source };
    for _ in 0..TRIES {
        let found = api.get_opt(name).await.map_err(|error| failed(error.into()))?;
        let new = missing(found.as_ref().and_then(|secret| secret.data.as_ref()), wanted)?;
        let written = match found {
            Some(secret) if new.is_empty() => return Ok(secret.data.unwrap_or_default()),
            Some(secret) => {
                let version = secret.metadata.resource_version;
                let patch = json!({"metadata": {"resourceVersion": version}, "data": new});
                api.patch(name, &params(), &Patch::Merge(patch)).await
            }
            None => api.create(&write(), &secret(name, new)).await,
        };
        match written {
            Ok(secret) => {
                tracing::info!(secret = name, "keys of the installation are made");
                return Ok(secret.data.unwrap_or_default());
            }
            Err(error) => match ApiError::from(error) {
                ApiError::Conflict | ApiError::Exists => {}
                error => return Err(failed(error)),
            },
        }
    }
    Err(SecretError::Contended(name))
}

/// New values of what isn't there.
fn missing(found: Option<&Data>, wanted: &[(&str, Make)]) -> Result<Data, SecretError> {
    let there = |key: &str| found.is_some_and(|data| data.contains_key(key));
    wanted
        .iter()
        .filter(|(key, _)| !there(key))
        .map(|(key, make)| Ok(((*key).to_owned(), ByteString(make()?))))
        .collect()
}

fn secret(name: &str, data: Data) -> Secret {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let labels = [label("app.kubernetes.io/name", "sparks"), label("app.kubernetes.io/managed-by", MANAGER)];
    let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels.into()), ..Default::default() };
    Secret { metadata, data: Some(data), type_: Some("Opaque".into()), ..Default::default() }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// A new Ed25519 key as ssh-keygen writes it.
fn new_key() -> Result<Vec<u8>, SecretError> {
    let key = PrivateKey::new(Ed25519Keypair::from_seed(&random()).into(), "sparks")?;
    Ok(key.to_openssh(LineEnding::LF)?.as_bytes().to_vec())
}

fn seed(data: &Data) -> Result<[u8; 32], SecretError> {
    let unusable = SecretError::Unusable { name: CONTROLLER, key: SEED, problem: "not 32 bytes" };
    data.get(SEED).and_then(|bytes| bytes.0.as_slice().try_into().ok()).ok_or(unusable)
}

/// The public half of the key with which the gateway enters.
fn login(data: &Data) -> Result<String, SecretError> {
    let unusable = || SecretError::Unusable {
        name: GATEWAY,
        key: LOGIN_KEY,
        problem: "no private key in OpenSSH's format without a passphrase",
    };
    let bytes = data.get(LOGIN_KEY).ok_or_else(unusable)?;
    let key =
        PrivateKey::from_openssh(&bytes.0).ok().filter(|key| !key.is_encrypted()).ok_or_else(unusable)?;
    Ok(key.public_key().to_openssh()?)
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
