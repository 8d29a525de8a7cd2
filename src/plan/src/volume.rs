//! Volumes that nobody owns any more, and the import of images.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sparks_api::{
    Reason, Volume,
    conditions::{self, PROVISIONED},
    labels,
};

use crate::{names, pods::Template};

/// What the reconciler gathered about one Volume.
pub struct Observed {
    /// The Volume.
    pub volume: Arc<Volume>,
    /// Whether the Spark or Checkpoint with the uid on its label exists.
    pub owner_exists: bool,
    /// Whether its node exists in the cluster.
    pub node_exists: bool,
    /// The pod that imports its image on its node.
    pub import_pod: Option<Arc<Pod>>,
    /// Whether another Volume waits for the same import.
    pub import_wanted_by_others: bool,
    /// How long trash is kept.
    pub retention: Duration,
    /// Makes pods.
    pub template: Template,
    /// The clock.
    pub now: Timestamp,
}

/// One write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Its owner is gone: merge-patch it into the trash, after a look at the API server that the owner really is gone.
    Trash(Value),
    /// Its time in the trash is over.
    Delete,
    /// Its node left the cluster with the data: there is nobody to finalize it.
    DropFinalizer,
    /// Start the pod that pulls and mounts its image.
    CreateImportPod(Box<Pod>),
    /// The import is done.
    DeleteImportPod(Arc<Pod>),
}

/// Plans one Volume: what to do now, and when to look again.
#[must_use]
pub fn plan(seen: &Observed) -> (Vec<Action>, Option<Duration>) {
    let volume = &seen.volume;
    let mut actions: Vec<Action> = import(seen).into_iter().collect();
    if volume.metadata.deletion_timestamp.is_some() {
        let drop = !seen.node_exists && !volume.finalizers().is_empty();
        actions.extend(drop.then_some(Action::DropFinalizer));
        return (actions, None);
    }
    if let Some(deadline) = deadline(volume) {
        let left = Duration::try_from(deadline.duration_since(seen.now)).unwrap_or_default();
        actions.extend(left.is_zero().then_some(Action::Delete));
        return (actions, (!left.is_zero()).then_some(left));
    }
    if !seen.owner_exists {
        let deadline = seen.now.saturating_add(seen.retention).unwrap_or(Timestamp::MAX);
        actions.push(Action::Trash(trash_patch(seen.now, deadline)));
    }
    (actions, None)
}

/// Until when a trashed Volume is kept.
fn deadline(volume: &Volume) -> Option<Timestamp> {
    volume.spec.trashed_at.as_ref()?;
    volume.annotations().get(labels::TRASH_DEADLINE)?.parse().ok()
}

/// Whether the node agent waits for an import of this Volume's image.
#[must_use]
pub fn waits_for_import(volume: &Volume) -> bool {
    let conditions = volume.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let waits = conditions::find(conditions, PROVISIONED).is_some_and(|c| c.reason == Reason::ImportingImage);
    waits && volume.metadata.deletion_timestamp.is_none() && volume.spec.trashed_at.is_none()
}

fn import(seen: &Observed) -> Option<Action> {
    let volume = &seen.volume;
    let image = volume.spec.source.image.as_ref()?;
    match (&seen.import_pod, waits_for_import(volume)) {
        (None, true) => {
            let owner = volume.owner_ref(&())?;
            let node = &volume.spec.node_name;
            let name = names::import_pod(&image.key, node);
            let pod = seen.template.import(name, &image.key, &image.reference, owner, node);
            Some(Action::CreateImportPod(Box::new(pod)))
        }
        (Some(pod), false) if !seen.import_wanted_by_others && pod.metadata.deletion_timestamp.is_none() => {
            Some(Action::DeleteImportPod(pod.clone()))
        }
        _ => None,
    }
}

/// The patch that puts a Volume into the trash until `deadline`, and lets go of its pod.
#[must_use]
pub fn trash_patch(now: Timestamp, deadline: Timestamp) -> Value {
    json!({
        "metadata": {
            "labels": {labels::TRASHED: "true"},
            "annotations": {labels::TRASH_DEADLINE: deadline.to_string()},
        },
        "spec": {"trashedAt": now.to_string(), "attachment": null},
    })
}
