//! Volumes that nobody owns any more, and the import of images.

mod look;
mod relation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time},
};
use kube::ResourceExt;
use sparks_api::{
    Reason, Volume, VolumeReference, VolumeSpec, VolumeStatus,
    conditions::{self, PROVISIONED},
    labels,
};

pub use relation::{import_pod, live, live_of, owned, owner, with_owner};

use crate::{
    action::{Action, Doomed, Planned, Seal},
    kind::{Kind, Status},
    known::{Known, owned_by},
    names,
    pods::Template,
    world::World,
};

/// What the reconciler gathered about one Volume.
pub struct Observed {
    /// The Volume.
    pub volume: Known<Volume>,
    /// Whether the Spark or Checkpoint with the uid on its label exists.
    pub owner_exists: bool,
    /// Whether its node exists in the cluster.
    pub node_exists: bool,
    /// The pod that imports its image on its node.
    pub import_pod: Option<Known<Pod>>,
    /// Whether another Volume waits for the same import.
    pub import_wanted_by_others: bool,
    /// How long trash is kept.
    pub retention: Duration,
    /// Makes pods.
    pub template: Template,
    /// The clock.
    pub now: Timestamp,
}

impl Kind for Volume {
    const NAME: &'static str = "Volume";
    const ALSO_DELETED: bool = true;
    type Seen = Observed;
    /// The node agent writes it.
    type Status = VolumeStatus;

    fn look(this: &Known<Self>, world: &World<'_>) -> Observed {
        look::look(this, world)
    }

    fn plan(seen: &Observed) -> Planned<VolumeStatus> {
        plan(seen)
    }

    fn status(&self) -> Option<&VolumeStatus> {
        self.status.as_ref()
    }
}

impl Status for VolumeStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn conditions_mut(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// Plans one Volume.
#[must_use]
pub fn plan(seen: &Observed) -> Planned<VolumeStatus> {
    let volume = &seen.volume;
    let mut planned = Planned { actions: import(seen).into_iter().collect(), ..Planned::default() };
    let doomed = || Doomed { id: volume.id.clone(), version: None, grace_seconds: None };
    if volume.metadata.deletion_timestamp.is_some() {
        let orphan = !seen.node_exists && !volume.finalizers().is_empty();
        planned.actions.extend(orphan.then(|| release(volume)));
    } else if let Some(deadline) = deadline(volume) {
        let left = Duration::try_from(deadline.duration_since(seen.now)).unwrap_or(Duration::ZERO);
        planned.actions.extend(left.is_zero().then(|| Action::DeleteVolume(doomed())));
        planned.again = (!left.is_zero()).then_some(left);
    } else if !seen.owner_exists {
        let trashed = trashed(volume, seen.now, trash_deadline(seen.now, seen.retention));
        planned.actions.push(Action::Abandon(Box::new(trashed)));
    }
    planned
}

/// Its node left the cluster with the data: there is nobody else to let the object go.
fn release(volume: &Known<Volume>) -> Action {
    let mut released = (**volume).clone();
    released.metadata.finalizers = None;
    Action::UpdateVolume(Box::new(released), Seal::default())
}

/// Names the Volume for good.
#[must_use]
pub fn reference_to(volume: &Known<Volume>) -> VolumeReference {
    VolumeReference {
        namespace: volume.namespace().into(),
        name: volume.name().into(),
        uid: volume.id.uid.to_string(),
    }
}

/// Whether the Volume's disks exist.
#[must_use]
pub fn is_provisioned(volume: &Volume) -> bool {
    volume.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, PROVISIONED))
}

/// Until when a trashed Volume is kept.
fn deadline(volume: &Volume) -> Option<Timestamp> {
    volume.spec.trashed_at.as_ref()?;
    volume.annotations().get(labels::TRASH_DEADLINE)?.parse().ok()
}

/// Whether the node agent waits for an import of this Volume's image.
#[must_use]
pub fn waits_for_import(volume: &Volume) -> bool {
    let status = volume.status.as_ref();
    let condition = status.and_then(|status| conditions::find(&status.conditions, PROVISIONED));
    let waits = condition.is_some_and(|c| c.reason == Reason::ImportingImage);
    waits && volume.metadata.deletion_timestamp.is_none() && volume.spec.trashed_at.is_none()
}

fn import(seen: &Observed) -> Option<Action> {
    let volume = &seen.volume;
    let image = volume.spec.source.image.as_ref()?;
    match (&seen.import_pod, waits_for_import(volume)) {
        (None, true) => {
            // Several Volumes may wait for one import: none of them is its controller.
            let owner = OwnerReference { controller: None, ..owned_by(volume) };
            let node = &volume.spec.node_name;
            let name = names::import_pod(&image.key, node);
            let pod = seen.template.import(name, &image.key, &image.reference, owner, node);
            Some(Action::CreatePod { pod: Box::new(pod), pool: None })
        }
        (Some(pod), false) if !seen.import_wanted_by_others && pod.metadata.deletion_timestamp.is_none() => {
            Some(Action::DeletePod(Doomed { id: pod.id.clone(), version: None, grace_seconds: Some(0) }))
        }
        _ => None,
    }
}

/// Until when what is trashed now is kept.
#[must_use]
pub fn trash_deadline(now: Timestamp, retention: Duration) -> Timestamp {
    now.saturating_add(retention).unwrap_or(Timestamp::MAX)
}

/// The Volume in the trash until `deadline`, without its pod.
#[must_use]
pub fn trashed(volume: &Volume, now: Timestamp, deadline: Timestamp) -> Volume {
    let mut trashed = volume.clone();
    trashed.labels_mut().insert(labels::TRASHED.into(), "true".into());
    trashed.annotations_mut().insert(labels::TRASH_DEADLINE.into(), deadline.to_string());
    trashed.spec = VolumeSpec { trashed_at: Some(Time(now)), attachment: None, ..trashed.spec };
    trashed
}
