//! What every reconciler has.

use std::{sync::Arc, time::Duration};

use kube::{
    Client, Resource,
    api::{Api, Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sparks_plan::pods::Template;

use crate::{hub::Hub, memory::Memory, metrics::Metrics, ssh};

/// Field manager of everything that the controller writes.
pub const MANAGER: &str = "sparks-controller";

/// What every reconciler has.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Caches of what is there.
    pub hub: Hub,
    /// What is remembered between passes.
    pub memory: Memory,
    /// Metrics.
    pub metrics: Metrics,
    /// The installation's SSH keys.
    pub installation: ssh::Installation,
    /// What was read for `ssh.authorizedKeysFrom` lately.
    pub key_sources: ssh::Sources,
    /// Makes pods.
    pub template: Template,
    /// How long trash is kept.
    pub retention: Duration,
    /// Records events.
    pub recorder: Recorder,
}

impl Context {
    /// The API of this kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Merge-patches the status if it changed.
    ///
    /// # Errors
    /// The API server's.
    pub async fn write_status<K, S>(
        &self,
        api: &Api<K>,
        name: &str,
        old: Option<&S>,
        new: &S,
    ) -> Result<bool, kube::Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize,
    {
        self.write_status_of(api, name, None, old, new).await
    }

    /// The same, and where a `version` is given only if nobody wrote the object since.
    ///
    /// # Errors
    /// The API server's; a conflict when somebody did.
    pub async fn write_status_of<K, S>(
        &self,
        api: &Api<K>,
        name: &str,
        version: Option<String>,
        old: Option<&S>,
        new: &S,
    ) -> Result<bool, kube::Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize,
    {
        let patch = sparks_plan::patch::between(old, new).map_err(kube::Error::SerdeError)?;
        let Some(patch) = patch else { return Ok(false) };
        let mut patch = json!({"status": patch});
        if let Some(version) = version {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        api.patch_status(name, &params(), &Patch::Merge(patch)).await?;
        Ok(true)
    }

    /// Records an event on its own task, because nobody has to wait for it.
    pub fn record(
        self: &Arc<Self>,
        object: &impl Resource<DynamicType = ()>,
        warning: bool,
        reason: &sparks_api::Reason,
        note: String,
    ) {
        let (context, reference) = (self.clone(), object.object_ref(&()));
        let reason = reason.to_string();
        tokio::spawn(async move {
            let event = Event {
                type_: if warning { EventType::Warning } else { EventType::Normal },
                reason: reason.clone(),
                note: Some(note.chars().take(1024).collect()),
                action: reason,
                secondary: None,
            };
            if let Err(error) = context.recorder.publish(&event, &reference).await {
                tracing::warn!(%error, "an event could not be recorded");
            }
        });
    }
}

/// Parameters of every patch.
pub fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() }
}
