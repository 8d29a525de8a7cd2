//! The status of a Spark.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::ResourceExt;
use sparks_api::{
    Class, Inherited, LocalReference, Reason, Restored, Spark, SparkPhase, SparkStatus, SparkTimings, Volume,
    conditions::{self, ATTACHED, KEYS_RESOLVED, PROVISIONED, RESIZED, RUNNING, condition},
    time,
};

use super::{observed::Observed, service::DEFAULT_PORT, sleep, ssh};
use crate::{
    action::{Event, Started},
    known::Known,
    names, pods,
    progress::{Blocked, Progress},
};

/// When the Spark is to be deleted.
pub(super) fn expires_at(spark: &Spark) -> Option<Time> {
    let ttl = time::parse_duration(spark.spec.lifecycle.ttl.as_deref()?)?;
    spark.metadata.creation_timestamp.as_ref().map(|born| time::later(born, ttl))
}

/// Whether the disks exist, or what keeps them from it. `refused` is what the API server said to the import's pod.
pub(super) fn provisioned(
    volume: &Volume,
    import_pod: Option<&Known<Pod>>,
    refused: Option<&Blocked>,
) -> Result<(), Blocked> {
    let condition =
        volume.status.as_ref().and_then(|status| conditions::find(&status.conditions, PROVISIONED));
    match condition {
        Some(found) if found.status == "True" => Ok(()),
        Some(found) if found.reason == Reason::ImportingImage => match refused {
            Some(refused) if import_pod.is_none() => Err(refused.clone()),
            _ => Err(importing(volume, import_pod.map(|pod| &**pod))),
        },
        Some(found) => Err(relayed(volume, found)),
        None => Err(Blocked::new(Reason::Provisioning, "the disks are being made")),
    }
}

/// How far the import of the image is, in the kubelet's words when it can't be pulled.
fn importing(volume: &Volume, import_pod: Option<&Pod>) -> Blocked {
    let image = volume.spec.source.image.as_ref().map_or("", |image| image.reference.as_str());
    match import_pod.and_then(pods::waiting) {
        Some((
            why @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull"),
            words,
        )) => {
            let words = if words.is_empty() { why } else { words };
            let message = format!(
                "the image {image} can't be pulled: {words}; correct spec.image in a new Spark, or make the image available"
            );
            Blocked::new(Reason::ImagePullFailed, message)
        }
        _ => match import_pod.and_then(pods::unschedulable) {
            Some(words) => Blocked::new(
                Reason::Unschedulable,
                format!("the pod that imports the image finds no place: {words}"),
            ),
            None => Blocked::new(
                Reason::ImportingImage,
                format!("the image {image} is being pulled and imported on the node"),
            ),
        },
    }
}

/// Whether the disks are the pod's root and the service is ready, or what keeps them from it.
pub(super) fn attached(volume: &Volume, pod: &Known<Pod>) -> Result<(), Blocked> {
    let status = volume.status.as_ref();
    let is_this_pod = |found: &&sparks_api::Attached| found.pod_uid == pod.id.uid.as_str();
    let attached = status.and_then(|s| s.attached.as_ref()).filter(is_this_pod);
    let condition = status.and_then(|s| conditions::find(&s.conditions, ATTACHED));
    let done = condition.is_some_and(|c| c.status == "True");
    match attached {
        Some(found) if done && found.service_ready && pods::is_ready(pod) => Ok(()),
        Some(found) if done && found.service_ready => {
            let message = format!("the pod {} is not ready on its node", pod.name_any());
            Err(Blocked::new(Reason::PodStarting, message))
        }
        Some(found) if done => {
            let message = found
                .service_message
                .clone()
                .unwrap_or_else(|| "the service has not become ready yet".into());
            Err(Blocked::new(Reason::ServiceNotReady, message))
        }
        _ => Err(not_attached(volume, condition, pod)),
    }
}

fn not_attached(volume: &Volume, condition: Option<&Condition>, pod: &Pod) -> Blocked {
    if let Some(words) = pods::unschedulable(pod) {
        return Blocked::new(
            Reason::Unschedulable,
            format!("the pod {} finds no place: {words}", pod.name_any()),
        );
    }
    if let Some((why, words)) = pods::waiting(pod).filter(|(why, _)| *why != "ContainerCreating") {
        return Blocked::new(Reason::PodStarting, format!("the pod {} waits: {why} {words}", pod.name_any()));
    }
    match condition {
        Some(found) if found.reason != Reason::Attaching => relayed(volume, found),
        _ if !pods::is_ready(pod) => {
            Blocked::new(Reason::PodStarting, format!("the pod {} starts", pod.name_any()))
        }
        _ => Blocked::new(
            Reason::Attaching,
            format!("the disks are being attached to the pod {}", pod.name_any()),
        ),
    }
}

/// The node agent's words.
fn relayed(volume: &Volume, found: &Condition) -> Blocked {
    Blocked::relayed(found, volume.status.as_ref().and_then(|status| conditions::class(&status.conditions)))
}

/// The whole status. What the gateway writes stays as it was read, so that no patch names it.
pub(super) fn status(
    seen: &Observed,
    effective: &Inherited,
    live: Option<&Known<Volume>>,
    progress: &Progress,
    falls_asleep: bool,
) -> SparkStatus {
    let spark = &seen.spark;
    let old = spark.status.clone().unwrap_or_default();
    let pod = current_pod(seen, live);
    let attached = live.zip(pod).and_then(|(live, pod)| sleep::attached_to(live, pod));
    let sleeping_since =
        if falls_asleep { Some(sleep::from(seen.now)) } else { sleep::since(spark).cloned() };
    let runs = spark.spec.lifecycle.running && sleeping_since.is_none();
    let mut status = SparkStatus {
        observed_generation: spark.metadata.generation,
        phase: phase(live.map(|live| &**live), progress, runs),
        origin: origin(spark),
        node_name: live.map(|v| v.spec.node_name.clone()).or(old.node_name),
        pod_name: pod.map(|pod| pod.name().into()),
        pod_ip: pod
            .filter(|_| runs && attached.is_some())
            .and_then(|p| p.status.as_ref())
            .and_then(|s| s.pod_ip.clone()),
        address: address(spark, effective),
        volume: live.map(|v| LocalReference { name: v.name().into() }).or(old.volume),
        disks: live.and_then(|v| v.status.as_ref()).map(|s| s.disks.clone()).unwrap_or_default(),
        expires_at: expires_at(spark),
        idle_since: attached.and_then(|a| a.idle_since.clone()),
        last_activity_at: old.last_activity_at,
        sleeping_since,
        ssh: Some(ssh::status(effective, &seen.ssh)),
        recordings: old.recordings,
        public: effective.service.as_ref().is_some_and(|service| service.public),
        restored: restored(spark, live).or(old.restored),
        inherited: None,
        timings: timings(seen, live, progress).or(old.timings),
        conditions: old.conditions,
    };
    progress.write(&mut status.conditions, spark.metadata.generation, seen.now);
    let up = runs && attached.is_some() && pod.is_some_and(|pod| pods::is_ready(pod));
    running(&mut status.conditions, up, progress, spark.metadata.generation, seen.now);
    ssh::resolved(&mut status.conditions, effective, &seen.ssh, spark.metadata.generation, seen.now);
    resized(&mut status, seen, effective, live, pod);
    status
}

/// Writes [`RUNNING`].
fn running(
    conditions: &mut Vec<Condition>,
    up: bool,
    progress: &Progress,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (why, message) = if up { (&Reason::Running, "the computer is up") } else { progress.words() };
    conditions::set(conditions, condition(RUNNING, up, why, message, generation, now));
}

/// The pod that is, or becomes, this Spark.
pub(super) fn current_pod<'a>(seen: &'a Observed, live: Option<&Known<Volume>>) -> Option<&'a Known<Pod>> {
    let uid = live.and_then(|v| v.spec.attachment.as_ref()).map(|a| a.pod_uid.as_str());
    let here = || seen.pods.iter().filter(|pod| !pods::is_ending(pod));
    here().find(|pod| Some(pod.id.uid.as_str()) == uid).or_else(|| here().next())
}

fn phase(live: Option<&Volume>, progress: &Progress, runs: bool) -> SparkPhase {
    let provisioned =
        live.and_then(|v| v.status.as_ref()).is_some_and(|s| conditions::is_true(&s.conditions, PROVISIONED));
    match progress {
        Progress::Ready(Reason::Running, _) => SparkPhase::Running,
        Progress::Ready(Reason::Sleeping, _) => SparkPhase::Sleeping,
        Progress::Ready(..) => SparkPhase::Stopped,
        Progress::Blocked(blocked) if blocked.is_stalled() => SparkPhase::Failed,
        Progress::Blocked(_) if !provisioned => SparkPhase::Pending,
        Progress::Blocked(blocked) if !runs || blocked.reason == Reason::Expired => SparkPhase::Stopping,
        Progress::Blocked(_) => SparkPhase::Starting,
    }
}

fn origin(spark: &Known<Spark>) -> Option<String> {
    let Some(from) = &spark.spec.from else {
        return spark.spec.image.as_ref().map(|image| format!("image/{image}"));
    };
    let namespace = from.namespace.as_ref().filter(|n| *n != spark.namespace());
    let namespace = namespace.map(|n| format!("{n}/")).unwrap_or_default();
    let spark = from.spark.as_ref().map(|name| format!("spark/{namespace}{name}"));
    spark.or_else(|| from.checkpoint.as_ref().map(|name| format!("checkpoint/{namespace}{name}")))
}

fn address(spark: &Known<Spark>, effective: &Inherited) -> Option<String> {
    let port = effective.service.as_ref().map_or(DEFAULT_PORT, |service| service.port);
    Some(format!("{}.{}.svc:{port}", spark.name(), spark.namespace()))
}

fn restored(spark: &Known<Spark>, live: Option<&Known<Volume>>) -> Option<Restored> {
    let restore = spark.spec.restore.as_ref()?;
    let name = names::restored_volume(spark.name(), &spark.id.uid, restore);
    let done = live.is_some_and(|volume| volume.name() == name);
    done.then(|| Restored { checkpoint: restore.checkpoint.clone(), id: restore.id.clone() })
}

/// Timings of a start that has just come to its end; those of an earlier one stay as they are.
fn timings(seen: &Observed, live: Option<&Known<Volume>>, progress: &Progress) -> Option<SparkTimings> {
    if was_up(&seen.spark) || !matches!(progress, Progress::Ready(Reason::Running, _)) {
        return None;
    }
    let node = live.and_then(|v| v.status.as_ref()).and_then(|s| s.timings.clone()).unwrap_or_default();
    Some(SparkTimings {
        warm: seen.start.warm,
        claim_micros: seen.start.claim.map(micros),
        snapshot_micros: node.snapshot_micros,
        attach_micros: node.attach_micros,
        service_micros: node.service_micros,
        total_micros: Some(micros(seen.start.age)),
    })
}

fn was_up(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(SparkStatus::is_up)
}

/// The start that ends with this status.
pub(super) fn started(spark: &Spark, new: &SparkStatus) -> Option<Started> {
    let timings = new.timings.as_ref().filter(|_| new.is_up() && !was_up(spark))?;
    let took = Duration::from_micros(u64::try_from(timings.total_micros?).ok()?);
    Some(Started { warm: timings.warm, took })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whether pod and disks have the sizes that the spec asks for.
fn resized(
    status: &mut SparkStatus,
    seen: &Observed,
    effective: &Inherited,
    live: Option<&Known<Volume>>,
    pod: Option<&Known<Pod>>,
) {
    let generation = seen.spark.metadata.generation;
    let disks = live.and_then(|v| v.status.as_ref()).and_then(|s| conditions::find(&s.conditions, RESIZED));
    let new = match (disks.filter(|c| c.status == "False"), pod.filter(|_| effective.resources.is_some())) {
        (Some(refused), _) => {
            condition(RESIZED, false, Reason::SizeTooSmall, refused.message.clone(), generation, seen.now)
        }
        (None, Some(pod)) => match pods::resize_pending(pod) {
            Some(words) => condition(RESIZED, false, Reason::ResizePending, words, generation, seen.now),
            None => condition(RESIZED, true, Reason::Available, "the pod has its size", generation, seen.now),
        },
        (None, None) => return conditions::remove(&mut status.conditions, RESIZED),
    };
    conditions::set(&mut status.conditions, new);
}

/// What has just begun to be wrong, or was just done.
pub(super) fn events(spark: &Spark, progress: &Progress, new: &SparkStatus) -> Vec<Event> {
    let old = spark.status.as_ref();
    let before = old.and_then(|s| conditions::find(&s.conditions, conditions::READY));
    let mut events = Vec::new();
    if let Progress::Blocked(blocked) = progress
        && blocked.class > Class::Waiting
        && before.is_none_or(|c| c.reason != blocked.reason || c.message != blocked.message)
    {
        events.push(Event { warning: true, reason: blocked.reason.clone(), note: blocked.message.clone() });
    }
    if let Some(restored) = new.restored.as_ref().filter(|r| old.and_then(|s| s.restored.as_ref()) != Some(r))
    {
        events.push(Event {
            warning: false,
            reason: Reason::Restored,
            note: format!("restored from the Checkpoint {}", restored.checkpoint),
        });
    }
    events.extend(rest(spark, new));
    events.extend(unresolved(old, new));
    events
}

/// It fell asleep or woke.
fn rest(spark: &Spark, new: &SparkStatus) -> Option<Event> {
    let slept = spark.status.as_ref().is_some_and(|s| s.sleeping_since.is_some());
    let ordinary = |reason, note: &str| Some(Event { warning: false, reason, note: note.into() });
    match (slept, new.sleeping_since.is_some()) {
        (false, true) => ordinary(Reason::Sleeping, "it was idle and goes to sleep"),
        (true, false) if spark.spec.lifecycle.running => {
            ordinary(Reason::Woken, "somebody came while it slept")
        }
        _ => None,
    }
}

/// Keys that were named and can't be used.
fn unresolved(old: Option<&SparkStatus>, new: &SparkStatus) -> Option<Event> {
    let now = conditions::find(&new.conditions, KEYS_RESOLVED).filter(|c| c.status == "False")?;
    let before = old.and_then(|s| conditions::find(&s.conditions, KEYS_RESOLVED));
    let reason = Reason::from(now.reason.as_str());
    let told = before.is_some_and(|c| c.reason == now.reason && c.message == now.message);
    (!told).then(|| Event { warning: true, reason, note: now.message.clone() })
}
