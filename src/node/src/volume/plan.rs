//! PURE: from what a Volume asks for and what is there to what is to be done, in order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use sparks_api::{
    Attachment, ROOT_DISK, Reason, Volume,
    conditions::{ATTACHED, PROVISIONED, RESIZED},
    labels,
};
use sparks_host::pool::{self, DiskSource, DiskSpec, VolumeRequest};
use sparks_proto::Computer;

use super::blocked::{Blocked, Retry};
use crate::guest::{GuestView, Standing};

/// What a guest may take to quiesce, beyond the grace of its service.
const QUIESCE_MARGIN: Duration = Duration::from_secs(10);
/// The longest grace that the API admits; a guest's own word isn't believed beyond it.
const MAX_GRACE: u32 = 3600;

/// What there is.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The disks in the pool.
    pub disks: Option<Arc<pool::Volume>>,
    /// What they are to be made from.
    pub source: SourceState,
    /// The pod to attach to.
    pub pod: PodState,
    /// Living containers, other than the wanted pod's present one, that stand in these disks.
    pub others: Vec<String>,
    /// The Volume that the wanted container stands in and that still wants it, if that is another one.
    pub rival: Option<String>,
    /// What the guest is to be, or why that can't be told.
    pub computer: Result<Computer, String>,
    /// How long ago the guest was told to quiesce.
    pub quiescing: Option<Duration>,
}

/// What disks are to be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Nothing, or it doesn't matter because the disks are there.
    Empty,
    /// An image in the pool.
    Image,
    /// An image that isn't; the sentence says why its import failed.
    ImageMissing(Option<String>),
    /// A Volume in the pool with disks of these names.
    Volume(Vec<String>),
    /// A Volume that has no disks yet.
    VolumeNotReady,
    /// A Volume that isn't on this node, or no longer.
    VolumeMissing,
}

/// The pod to attach to.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// None is wanted.
    Unwanted,
    /// It isn't on this node, or not known yet.
    Unseen,
    /// A pod of that name that isn't (yet) this Spark's.
    Foreign,
    /// Its container doesn't run.
    NotRunning,
    /// Its container runs.
    Running(String, Box<GuestView>),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one step at a time")]
#[allow(missing_docs, reason = "what a step needs is in its own words")]
pub enum Step {
    /// Make the disks.
    Create(VolumeRequest),
    /// Set the limit of a disk.
    SetLimit { disk: String, bytes: u64 },
    /// Have the guest let go of its root.
    Quiesce { container: String },
    /// Make the disks the root of the container, which stands in `instead_of` now.
    Attach { container: String, instead_of: Standing },
    /// Tell the guest what it is.
    Run { container: String, computer: Computer },
    /// Move the disks into the trash, until this unix second.
    Trash { deadline: u64 },
    /// Let the object go.
    RemoveFinalizer,
}

/// What is to be done, and what stands in the way of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// Told in the conditions.
    pub blocked: Vec<Blocked>,
}

/// Plans one Volume.
pub fn plan(volume: &Volume, observed: &Observed, retention: Duration, now: Timestamp) -> Plan {
    if volume.metadata.deletion_timestamp.is_some() {
        return removal(volume, observed, retention, now);
    }
    let mut plan = Plan::default();
    match &observed.disks {
        Some(disks) => resize(volume, disks, &mut plan),
        None => match request(volume, &observed.source, now) {
            Ok(request) => plan.steps.push(Step::Create(request)),
            Err(blocked) => {
                plan.blocked.push(blocked);
                return plan;
            }
        },
    }
    if let Some(wanted) = wanted(volume) {
        attach(volume, wanted, observed, &mut plan);
    }
    plan
}

/// The attachment, if there is to be one.
pub fn wanted(volume: &Volume) -> Option<&Attachment> {
    let settled = volume.spec.trashed_at.is_some() || volume.metadata.deletion_timestamp.is_some();
    volume.spec.attachment.as_ref().filter(|_| !settled)
}

fn removal(volume: &Volume, observed: &Observed, retention: Duration, now: Timestamp) -> Plan {
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == labels::VOLUME_FINALIZER) {
        return Plan::default();
    }
    if let Some(container) = observed.others.first() {
        return Plan { steps: vec![], blocked: vec![in_use(container)] };
    }
    let annotation = volume.metadata.annotations.as_ref().and_then(|all| all.get(labels::TRASH_DEADLINE));
    let deadline = annotation.and_then(|text| text.parse::<Timestamp>().ok());
    let deadline = deadline.unwrap_or_else(|| now.saturating_add(retention).unwrap_or(Timestamp::MAX));
    let deadline = u64::try_from(deadline.as_second()).unwrap_or(0);
    Plan { steps: vec![Step::Trash { deadline }, Step::RemoveFinalizer], blocked: vec![] }
}

fn in_use(container: &str) -> Blocked {
    let short = container.get(..12).unwrap_or(container);
    Blocked::new(
        ATTACHED,
        Reason::PodTerminating,
        format!(
            "container {short} of the pod before still runs in these disks; it goes on when that has ended"
        ),
    )
}

/// What the pool is asked for; the disks that the source doesn't have start empty.
fn request(volume: &Volume, source: &SourceState, now: Timestamp) -> Result<VolumeRequest, Blocked> {
    let spec = &volume.spec;
    let origin = |disk: &str| match (&spec.source.image, &spec.source.volume, source) {
        (Some(image), _, _) if disk == ROOT_DISK => DiskSource::Image { key: image.key.clone() },
        (_, Some(from), SourceState::Volume(names)) if names.iter().any(|name| name == disk) => {
            DiskSource::Volume { uid: from.uid.clone(), disk: disk.to_owned() }
        }
        _ => DiskSource::Empty,
    };
    match source {
        SourceState::Empty | SourceState::Image | SourceState::Volume(_) => {}
        SourceState::ImageMissing(None) => {
            let reference = spec.source.image.as_ref().map_or("", |image| &image.reference);
            let message = format!("the image {reference} is being imported");
            return Err(Blocked::new(PROVISIONED, Reason::ImportingImage, message));
        }
        SourceState::ImageMissing(Some(error)) => {
            let failed = Blocked::new(PROVISIONED, Reason::HostError, error.clone());
            return Err(failed.retry(Retry::Event));
        }
        SourceState::VolumeNotReady => {
            let message = "the disks of the source are not made yet";
            return Err(Blocked::new(PROVISIONED, Reason::SourceNotReady, message));
        }
        SourceState::VolumeMissing => {
            let from = spec.source.volume.as_ref().map_or("", |from| &from.name);
            let message =
                format!("the source volume {from} is not on this node any more: choose another source");
            return Err(Blocked::new(PROVISIONED, Reason::SourceLost, message));
        }
    }
    let disks = spec.disks.iter().map(|disk| {
        Ok(DiskSpec {
            name: disk.name.clone(),
            source: origin(&disk.name),
            limit_bytes: Some(limit(volume, &disk.name)?),
            read_only: spec.read_only,
        })
    });
    Ok(VolumeRequest {
        uid: volume.metadata.uid.clone().unwrap_or_default(),
        disks: disks.collect::<Result<_, _>>()?,
        meta: json!({
            "namespace": volume.metadata.namespace,
            "name": volume.metadata.name,
            "createdAt": now.to_string(),
        }),
    })
}

fn limit(volume: &Volume, disk: &str) -> Result<u64, Blocked> {
    let size = volume.spec.disks.iter().find(|spec| spec.name == disk).map(|spec| &spec.size);
    size.and_then(sparks_plan::quantity::units).ok_or_else(|| {
        let message = format!("the size of disk {disk} is no quantity of bytes, such as 20Gi");
        Blocked::new(PROVISIONED, Reason::Unsupported, message)
    })
}

fn resize(volume: &Volume, disks: &pool::Volume, plan: &mut Plan) {
    let present: BTreeMap<&str, Option<u64>> =
        disks.disks.iter().map(|disk| (disk.name.as_str(), disk.limit_bytes)).collect();
    for disk in &volume.spec.disks {
        let Some(present) = present.get(disk.name.as_str()) else { continue };
        match limit(volume, &disk.name) {
            Ok(bytes) if *present == Some(bytes) => {}
            Ok(bytes) => plan.steps.push(Step::SetLimit { disk: disk.name.clone(), bytes }),
            Err(blocked) => plan.blocked.push(Blocked { condition: RESIZED, ..blocked }),
        }
    }
}

fn attach(volume: &Volume, wanted: &Attachment, observed: &Observed, plan: &mut Plan) {
    match attach_steps(volume, wanted, observed) {
        Ok(steps) => plan.steps.extend(steps),
        Err((steps, blocked)) => {
            plan.steps.extend(steps);
            plan.blocked.push(blocked);
        }
    }
}

type Steps = Vec<Step>;

fn attach_steps(
    volume: &Volume,
    wanted: &Attachment,
    observed: &Observed,
) -> Result<Steps, (Steps, Blocked)> {
    let wait = |reason, message: String| Err((vec![], Blocked::new(ATTACHED, reason, message)));
    let pod = &wanted.pod_name;
    if let Some(container) = observed.others.first() {
        return Err((vec![], in_use(container)));
    }
    let (container, guest) = match &observed.pod {
        PodState::Running(container, guest) => (container.clone(), guest),
        PodState::Unwanted | PodState::Unseen => {
            return wait(Reason::PodStarting, format!("the pod {pod} is not on this node yet"));
        }
        PodState::Foreign => {
            return wait(Reason::Attaching, format!("the pod {pod} is not marked as this Spark's yet"));
        }
        PodState::NotRunning => {
            return wait(Reason::PodStarting, format!("the container of pod {pod} does not run yet"));
        }
    };
    let computer = match &observed.computer {
        Ok(computer) => computer.clone(),
        Err(sentence) => return Err((vec![], Blocked::new(ATTACHED, Reason::HostError, sentence))),
    };
    let run = Step::Run { container: container.clone(), computer: computer.clone() };
    let Some(standing) = &guest.standing else {
        return wait(Reason::Attaching, format!("the container of pod {pod} is being looked at"));
    };
    let ours = *standing == Standing::Volume(volume.metadata.uid.clone().unwrap_or_default());
    if !guest.connected {
        // A guest that runs in these disks already is left alone until it can be asked.
        let waiting = format!("the guest of pod {pod} is being connected");
        return if ours { Ok(vec![]) } else { wait(Reason::Attaching, waiting) };
    }
    let attach = Step::Attach { container: container.clone(), instead_of: standing.clone() };
    match standing {
        _ if ours => Ok(if guest.running.as_ref() == Some(&computer) { vec![] } else { vec![run] }),
        Standing::Image => Ok(vec![attach, run]),
        Standing::Volume(_) => {
            if let Some(rival) = &observed.rival {
                return wait(Reason::Attaching, format!("the volume {rival} still wants the pod {pod}"));
            }
            if guest.quiesced {
                return Ok(vec![attach, run]);
            }
            Err(quiesce(container, guest, observed.quiescing))
        }
    }
}

/// The guest lets go of the root that it stands in before it gets another.
fn quiesce(container: String, guest: &GuestView, since: Option<Duration>) -> (Steps, Blocked) {
    let service = guest.running.as_ref().and_then(|computer| computer.service.as_ref());
    let grace = service.map_or(0, |service| service.grace_seconds.min(MAX_GRACE));
    let patience = Duration::from_secs(grace.into()) + QUIESCE_MARGIN;
    let message = "the guest ends what runs before its root is replaced";
    let waiting = |pause| Blocked::new(ATTACHED, Reason::Attaching, message).retry(Retry::After(pause));
    match since.map(|since| patience.checked_sub(since)) {
        None => (vec![Step::Quiesce { container }], waiting(patience)),
        Some(Some(left)) => (vec![], waiting(left)),
        Some(None) => {
            let message = "the guest did not end what runs in time, so that its root can't be replaced; stop the Spark and start it again";
            (vec![Step::Quiesce { container }], Blocked::new(ATTACHED, Reason::HostError, message))
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
