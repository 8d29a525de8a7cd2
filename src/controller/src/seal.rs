//! Secrets of a Volume's attachment: read by the controller, and sealed to the node agent that needs them, so that they
//! stand nowhere in clear and no node agent may read Secrets.

use std::collections::BTreeMap;

use crypto_box::{PublicKey, aead::OsRng};
use sparks_api::{EnvSource, NamespacedName, Reason, Volume};
use sparks_plan::{
    action::Seal,
    placement::{self, Agent},
    progress::Blocked,
};

use crate::{
    api::{ApiError, blocked},
    context::Context,
};

/// Why nothing could be sealed.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The user has to act, or the node agent to come up.
    #[error("{}", .0.message)]
    Blocked(Blocked),
    /// The API server failed.
    #[error("a Secret or ConfigMap could not be read: {0}")]
    Api(ApiError),
}

/// The Volume with all that is to be sealed into its attachment.
///
/// # Errors
/// [`SealError`].
pub async fn sealed(context: &Context, volume: &Volume, seal: &Seal) -> Result<Volume, SealError> {
    let (mut volume, node) = (volume.clone(), volume.spec.node_name.clone());
    let namespace = volume.metadata.namespace.clone();
    let Some(attachment) = volume.spec.attachment.as_mut().filter(|_| !seal.is_empty()) else {
        return Ok(volume);
    };
    let agents = context.look(|world| placement::agents(world.index));
    if let (false, Some(namespace)) = (seal.env.is_empty(), namespace) {
        let plain = environment(context, &namespace, &seal.env).await?;
        attachment.sealed_env = Some(to_agent(&agents, &node, &plain).map_err(SealError::Blocked)?);
    }
    if let (Some(uid), Some(ssh)) = (&seal.host_key_of, &mut attachment.ssh) {
        let seed = context.installation.keys().host_seed(uid);
        ssh.sealed_host_key = Some(to_agent(&agents, &node, &seed).map_err(SealError::Blocked)?);
    }
    Ok(volume)
}

/// All variables in order, as a JSON list of name and value.
async fn environment(
    context: &Context,
    namespace: &str,
    sources: &[EnvSource],
) -> Result<Vec<u8>, SealError> {
    let mut all: Vec<(String, String)> = Vec::new();
    for source in sources {
        let prefix = source.prefix.as_deref().unwrap_or("");
        let variables = read(context, namespace, source).await?;
        all.extend(variables.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    serde_json::to_vec(&all).map_err(|error| SealError::Api(ApiError::Failed(error.to_string())))
}

async fn read(
    context: &Context,
    namespace: &str,
    source: &EnvSource,
) -> Result<BTreeMap<String, String>, SealError> {
    if let Some(reference) = &source.secret_ref {
        let found = context.api.secret(&NamespacedName::new(namespace, &reference.name)).await;
        let data = found.map_err(|error| missing(error, "Secret", &reference.name))?;
        return Ok(data.into_iter().filter_map(|(k, v)| Some((k, String::from_utf8(v).ok()?))).collect());
    }
    let Some(reference) = &source.config_map_ref else { return Ok(BTreeMap::new()) };
    let found = context.api.config_map(&NamespacedName::new(namespace, &reference.name)).await;
    found.map_err(|error| missing(error, "ConfigMap", &reference.name))
}

fn missing(error: ApiError, kind: &str, name: &str) -> SealError {
    match error {
        ApiError::Gone => {
            let message = format!(
                "the {kind} {name} named in service.envFrom does not exist in this namespace: create it"
            );
            SealError::Blocked(Blocked::new(Reason::EnvSourceNotFound, message))
        }
        ApiError::Refused(words) => SealError::Blocked(blocked(&words)),
        error => SealError::Api(error),
    }
}

/// Seals to the agent of `node`, in hex.
///
/// # Errors
/// [`Blocked`] until that agent has published its key.
fn to_agent(agents: &[Agent], node: &str, plain: &[u8]) -> Result<String, Blocked> {
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
        let sealed = to_agent(&agents, "n", br#"[["TOKEN","secret"]]"#).unwrap();
        let bytes: Vec<u8> = (0..sealed.len() / 2)
            .map(|i| u8::from_str_radix(&sealed[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(mine.unseal(&bytes).unwrap(), br#"[["TOKEN","secret"]]"#);
        assert!(other.unseal(&bytes).is_err());
        assert!(!sealed.contains("secret"));
    }

    #[test]
    fn a_node_without_a_key_is_waited_for() {
        assert_eq!(to_agent(&[], "n", &[]).unwrap_err().reason, Reason::NodeLost);
    }
}
