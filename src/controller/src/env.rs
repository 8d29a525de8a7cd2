//! `envFrom`: read from Secrets and ConfigMaps, and sealed to the node agent that needs it, so that it stands nowhere
//! in clear and no node agent may read Secrets.

use std::collections::BTreeMap;

use crypto_box::{PublicKey, aead::OsRng};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sparks_api::{EnvSource, Reason};
use sparks_plan::{placement::Agent, progress::Blocked};

use crate::{api_error, context::Context};

/// Why the environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The user has to act, or the node agent to come up.
    #[error("{}", .0.message)]
    Blocked(Blocked),
    /// The API server failed.
    #[error("the environment could not be read: {0}")]
    Api(#[from] kube::Error),
}

/// Reads the sources in order and seals the variables to the agent of `node`, in hex.
///
/// # Errors
/// [`EnvError`].
pub async fn sealed(
    context: &Context,
    namespace: &str,
    sources: &[EnvSource],
    node: &str,
) -> Result<Option<String>, EnvError> {
    if sources.is_empty() {
        return Ok(None);
    }
    let mut all: Vec<(String, String)> = Vec::new();
    for source in sources {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let variables = read(context, namespace, source).await?;
        all.extend(variables.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    let plain = serde_json::to_vec(&all).map_err(kube::Error::SerdeError)?;
    seal(&context.hub.agents(), node, &plain).map(Some).map_err(EnvError::Blocked)
}

async fn read(
    context: &Context,
    namespace: &str,
    source: &EnvSource,
) -> Result<BTreeMap<String, String>, EnvError> {
    if let Some(reference) = &source.secret_ref {
        let found = context.api::<Secret>(namespace).get(&reference.name).await;
        let secret = found.map_err(|error| missing(error, "Secret", &reference.name))?;
        let data = secret.data.unwrap_or_default();
        return Ok(data.into_iter().filter_map(|(k, v)| Some((k, String::from_utf8(v.0).ok()?))).collect());
    }
    let name = source.config_map_ref.as_ref().map(|r| r.name.as_str()).unwrap_or_default();
    let found = context.api::<ConfigMap>(namespace).get(name).await;
    Ok(found.map_err(|error| missing(error, "ConfigMap", name))?.data.unwrap_or_default())
}

fn missing(error: kube::Error, kind: &str, name: &str) -> EnvError {
    if api_error::not_found(&error) {
        let message =
            format!("the {kind} {name} named in service.envFrom does not exist in this namespace: create it");
        return EnvError::Blocked(Blocked::new(Reason::EnvSourceNotFound, message));
    }
    EnvError::Api(error)
}

/// Seals to the agent of `node`, in hex.
///
/// # Errors
/// [`Blocked`] until that agent has published its key.
pub fn seal(agents: &[Agent], node: &str, plain: &[u8]) -> Result<String, Blocked> {
    let blocked = |message: String| Blocked::new(Reason::NodeLost, message);
    let key = agents.iter().find(|agent| agent.node == node).and_then(|agent| agent.public_key.as_deref());
    let key = key
        .and_then(unhex)
        .ok_or_else(|| blocked(format!("the node agent of {node} has published no key yet")))?;
    let sealed = PublicKey::from(key).seal(&mut OsRng, plain);
    let sealed = sealed.map_err(|_| blocked(format!("nothing could be sealed to the key of {node}")))?;
    Ok(sealed.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..32)
        .map(|i| text.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    bytes.filter(|_| text.len() == 64)?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crypto_box::SecretKey;

    #[test]
    fn only_the_agent_of_the_node_can_open_what_was_sealed_for_it() {
        let (mine, other) = (SecretKey::generate(&mut OsRng), SecretKey::generate(&mut OsRng));
        let hex = mine.public_key().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let agents = [Agent { node: "n".into(), free_bytes: 1, public_key: Some(hex) }];
        let sealed = seal(&agents, "n", br#"[["TOKEN","secret"]]"#).unwrap();
        let bytes: Vec<u8> = (0..sealed.len() / 2)
            .map(|i| u8::from_str_radix(&sealed[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(mine.unseal(&bytes).unwrap(), br#"[["TOKEN","secret"]]"#);
        assert!(other.unseal(&bytes).is_err());
        assert!(!sealed.contains("secret"));
    }

    #[test]
    fn a_node_without_a_key_is_waited_for() {
        assert_eq!(seal(&[], "n", &[]).unwrap_err().reason, Reason::NodeLost);
    }
}
