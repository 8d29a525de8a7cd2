//! Writes what the plan wants.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PostParams, Preconditions},
};
use serde_json::{Value, json};
use sparks_api::{Checkpoint, Spark, Volume, labels};
use sparks_plan::volume::Action;

use crate::{
    api_error::{ignore_exists, ignore_not_found, not_found},
    context::{Context, params},
};

pub async fn apply(context: &Context, volume: &Volume, action: &Action) -> Result<(), kube::Error> {
    let namespace = volume.namespace().unwrap_or_default();
    let volumes = context.api::<Volume>(&namespace);
    let pods = context.api::<Pod>(&namespace);
    match action {
        Action::Trash(patch) => trash(context, volume, patch).await,
        Action::Delete => ignore_not_found(volumes.delete(&volume.name_any(), &exactly(volume.uid())).await),
        Action::DropFinalizer => {
            tracing::warn!(volume = %volume.name_any(), node = %volume.spec.node_name, "the node left the cluster with the data");
            let patch =
                json!({"metadata": {"finalizers": null, "resourceVersion": volume.resource_version()}});
            ignore_not_found(volumes.patch(&volume.name_any(), &params(), &Patch::Merge(patch)).await)
        }
        Action::CreateImportPod(pod) => ignore_exists(pods.create(&PostParams::default(), pod).await),
        Action::DeleteImportPod(pod) => {
            let now = DeleteParams { grace_period_seconds: Some(0), ..exactly(pod.uid()) };
            ignore_not_found(pods.delete(&pod.name_any(), &now).await)
        }
    }
}

/// The cache may be behind: only the API server knows that the owner is gone.
async fn trash(context: &Context, volume: &Volume, patch: &Value) -> Result<(), kube::Error> {
    let label = |key: &str| volume.labels().get(key).cloned().unwrap_or_default();
    let (namespace, name) = (volume.namespace().unwrap_or_default(), label(labels::OWNER_NAME));
    let owner = if label(labels::OWNER_KIND) == "Checkpoint" {
        context.api::<Checkpoint>(&namespace).get_metadata_opt(&name).await?.and_then(|owner| owner.uid())
    } else {
        context.api::<Spark>(&namespace).get_metadata_opt(&name).await?.and_then(|owner| owner.uid())
    };
    if owner == Some(label(labels::OWNER_UID)) {
        return Ok(());
    }
    tracing::info!(volume = %volume.name_any(), namespace, owner = name, "the owner is gone; the disks go into the trash");
    let result =
        context.api::<Volume>(&namespace).patch(&volume.name_any(), &params(), &Patch::Merge(patch)).await;
    match result {
        Err(error) if not_found(&error) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Deletes this object and never another one by the same name.
fn exactly(uid: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..Default::default() }
}
