//! A Checkpoint: a read-only Volume beside its Spark's.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt};
use sparks_api::{
    Checkpoint, CheckpointPhase, CheckpointStatus, LocalReference, Reason, Spark, Volume, VolumeReference,
    VolumeSource, VolumeSpec,
    conditions::{self, PROVISIONED},
    labels, time,
};

use crate::{
    names,
    progress::{Blocked, Progress},
    spark::effective,
};

/// What the reconciler gathered about one Checkpoint.
pub struct Observed {
    /// The Checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// The Spark that it names.
    pub spark: Option<Arc<Spark>>,
    /// That Spark's live Volume.
    pub source: Option<Arc<Volume>>,
    /// The Checkpoint's own Volume.
    pub volume: Option<Arc<Volume>>,
    /// The clock.
    pub now: Timestamp,
}

/// One write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delete the Checkpoint: its time to live has passed.
    Delete,
    /// Make its Volume.
    CreateVolume(Box<Volume>),
}

/// What to do now, and how the Checkpoint then is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The write, if any.
    pub action: Option<Action>,
    /// The whole status.
    pub status: CheckpointStatus,
    /// Look again after this time even if nothing happens.
    pub requeue: Option<Duration>,
}

/// Plans one Checkpoint.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let expires_at = expires_at(&seen.checkpoint);
    let expired = expires_at.as_ref().is_some_and(|at| at.0 <= seen.now);
    let (mut action, progress) = match &seen.volume {
        Some(volume) => (None, taken(volume)),
        None => match new_volume(seen) {
            Ok(volume) => (Some(Action::CreateVolume(Box::new(volume))), waiting()),
            Err(blocked) => (None, Progress::Blocked(blocked)),
        },
    };
    if expired {
        action = Some(Action::Delete);
    }
    let requeue =
        expires_at.as_ref().map(|at| Duration::try_from(at.0.duration_since(seen.now)).unwrap_or_default());
    Plan { action, status: status(seen, expires_at, &progress), requeue }
}

fn expires_at(checkpoint: &Checkpoint) -> Option<Time> {
    let ttl = time::parse_duration(checkpoint.spec.ttl.as_deref()?)?;
    checkpoint.metadata.creation_timestamp.as_ref().map(|born| time::later(born, ttl))
}

fn waiting() -> Progress {
    Progress::Blocked(Blocked::new(Reason::Provisioning, "the snapshot is being taken"))
}

fn taken(volume: &Volume) -> Progress {
    let condition =
        volume.status.as_ref().and_then(|status| conditions::find(&status.conditions, PROVISIONED));
    match condition {
        Some(found) if found.status == "True" => {
            Progress::Ready(Reason::Available, "the snapshot is complete".into())
        }
        Some(found) => {
            let class = volume.status.as_ref().and_then(|status| conditions::class(&status.conditions));
            Progress::Blocked(Blocked::relayed(found, class))
        }
        None => waiting(),
    }
}

fn new_volume(seen: &Observed) -> Result<Volume, Blocked> {
    let checkpoint = &seen.checkpoint;
    let name = &checkpoint.spec.spark;
    if let Some(lost) = checkpoint.status.as_ref().and_then(|status| status.volume.as_ref()) {
        let message =
            format!("the Volume {} with the snapshot was deleted: delete this Checkpoint", lost.name);
        return Err(Blocked::new(Reason::VolumeLost, message));
    }
    if seen.spark.is_none() {
        let message =
            format!("Spark {name} does not exist in this namespace: create it, or delete this Checkpoint");
        return Err(Blocked::new(Reason::SourceNotFound, message));
    }
    let source = seen.source.as_ref().filter(|v| matches!(taken(v), Progress::Ready(..)));
    let source = source.ok_or_else(|| {
        Blocked::new(Reason::SourceNotReady, format!("Spark {name} has no data to snapshot yet"))
    })?;
    Ok(snapshot_of(checkpoint, source))
}

fn snapshot_of(checkpoint: &Checkpoint, source: &Volume) -> Volume {
    let reference = VolumeReference {
        namespace: source.namespace().unwrap_or_default(),
        name: source.name_any(),
        uid: source.uid().unwrap_or_default(),
    };
    let (name, uid) = (checkpoint.name_any(), checkpoint.uid().unwrap_or_default());
    let metadata = ObjectMeta {
        name: Some(names::volume(&name, &uid)),
        namespace: checkpoint.namespace(),
        labels: Some(crate::spark::owner_labels(&Checkpoint::kind(&()), &name, &uid)),
        finalizers: Some(vec![labels::VOLUME_FINALIZER.into()]),
        ..Default::default()
    };
    let spec = VolumeSpec {
        node_name: source.spec.node_name.clone(),
        source: VolumeSource { image: None, volume: Some(reference) },
        disks: source.spec.disks.clone(),
        read_only: true,
        attachment: None,
        trashed_at: None,
    };
    Volume { metadata, spec, status: None }
}

fn status(seen: &Observed, expires_at: Option<Time>, progress: &Progress) -> CheckpointStatus {
    let checkpoint = &seen.checkpoint;
    let old = checkpoint.status.clone().unwrap_or_default();
    let volume = seen.volume.as_deref();
    let inherited = old.inherited.or_else(|| {
        let spark = seen.spark.as_ref()?;
        Some(effective(&spark.spec, spark.status.as_ref().and_then(|s| s.inherited.as_ref())))
    });
    let mut status = CheckpointStatus {
        observed_generation: checkpoint.metadata.generation,
        phase: match progress {
            Progress::Ready(..) => CheckpointPhase::Ready,
            Progress::Blocked(blocked) if blocked.is_stalled() => CheckpointPhase::Failed,
            _ => CheckpointPhase::Pending,
        },
        taken_at: volume.and_then(|v| v.status.as_ref()).and_then(|s| s.created_at.clone()),
        expires_at,
        node_name: volume.map(|v| v.spec.node_name.clone()),
        volume: volume.map(|v| LocalReference { name: v.name_any() }).or(old.volume),
        inherited,
        conditions: old.conditions,
    };
    progress.write(&mut status.conditions, checkpoint.metadata.generation, seen.now);
    status
}
