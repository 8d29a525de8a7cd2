//! A Checkpoint: a read-only Volume beside its Spark's.

mod look;
mod watched;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use sparks_api::{
    Checkpoint, CheckpointPhase, CheckpointStatus, LocalReference, Reason, Spark, Volume, VolumeSource,
    VolumeSpec,
    conditions::{self, PROVISIONED},
    labels, time,
};

use crate::{
    action::{Action, Planned, Seal},
    kind::{Kind, Status},
    known::Known,
    names,
    progress::{Blocked, Progress},
    spark::{effective, owner_labels},
    volume,
    world::World,
};

/// What the reconciler gathered about one Checkpoint.
pub struct Observed {
    /// The Checkpoint.
    pub checkpoint: Known<Checkpoint>,
    /// The Spark that it names.
    pub spark: Option<Known<Spark>>,
    /// That Spark's live Volume.
    pub source: Option<Known<Volume>>,
    /// The Checkpoint's own Volume.
    pub volume: Option<Known<Volume>>,
    /// The clock.
    pub now: Timestamp,
}

impl Kind for Checkpoint {
    const NAME: &'static str = "Checkpoint";
    type Seen = Observed;
    type Status = CheckpointStatus;

    fn look(this: &Known<Self>, world: &World<'_>) -> Observed {
        look::look(this, world)
    }

    fn plan(seen: &Observed) -> Planned<CheckpointStatus> {
        plan(seen)
    }

    fn status(&self) -> Option<&CheckpointStatus> {
        self.status.as_ref()
    }
}

impl Status for CheckpointStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn conditions_mut(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// Plans one Checkpoint.
#[must_use]
pub fn plan(seen: &Observed) -> Planned<CheckpointStatus> {
    let expires_at = expires_at(&seen.checkpoint);
    let left = expires_at
        .as_ref()
        .map(|at| Duration::try_from(at.0.duration_since(seen.now)).unwrap_or(Duration::ZERO));
    let (volume, progress) = match &seen.volume {
        Some(volume) => (None, taken(volume)),
        None => match new_volume(seen) {
            Ok(volume) => (Some(volume), waiting()),
            Err(blocked) => (None, Progress::Blocked(blocked)),
        },
    };
    let action = match left {
        Some(Duration::ZERO) => Some(Action::Expire),
        _ => volume.map(|volume| Action::CreateVolume(Box::new(volume), Seal::default())),
    };
    Planned {
        actions: action.into_iter().collect(),
        status: Some(status(seen, expires_at, &progress)),
        again: left.filter(|left| !left.is_zero()),
        ..Planned::default()
    }
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

fn snapshot_of(checkpoint: &Known<Checkpoint>, source: &Known<Volume>) -> Volume {
    let reference = volume::reference_to(source);
    let metadata = ObjectMeta {
        name: Some(names::volume(checkpoint.name(), &checkpoint.id.uid)),
        namespace: Some(checkpoint.namespace().into()),
        labels: Some(owner_labels(checkpoint)),
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
    let volume = seen.volume.as_ref();
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
        volume: volume.map(|v| LocalReference { name: v.name().into() }).or(old.volume),
        inherited,
        conditions: old.conditions,
    };
    progress.write(&mut status.conditions, checkpoint.metadata.generation, seen.now);
    status
}
