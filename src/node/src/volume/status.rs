//! PURE: from what there is to what the status says, and whether that is worth a write.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sparks_api::{
    Attached, Attachment, Class, DiskUsage, Reason, Volume, VolumePhase, VolumeStatus, VolumeTimings,
    conditions::{ATTACHED, PROVISIONED, RESIZED, STALLED, condition, find, is_true, remove, set, set_class},
};
use sparks_host::pool;

use super::{
    apply::micros,
    blocked::Blocked,
    memory::Memory,
    plan::{Observed, PodState, wanted},
};
use crate::guest::{GuestView, Standing};

/// A usage that moved by less than this and by less than a hundredth isn't worth a write,
const USAGE_STEP: i64 = 16 << 20;
/// nor one that moved by less than this: the first blocks of each new fork would cost two.
const USAGE_LEAST: i64 = 1 << 20;
/// Between two writes of what a guest says, or of usage.
const SOFT_INTERVAL: Duration = Duration::from_secs(1);
/// Writes in quick succession after which all writes keep [`SOFT_INTERVAL`].
const MAX_BURST: u32 = 10;

/// An idle time is shown once it lasted this long, unless the attachment says another time: forks that are used at once
/// cost no write for it.
const IDLE_SHOWN_AFTER: Duration = Duration::from_secs(30);

/// What the status says.
pub fn describe(
    volume: &Volume,
    old: &VolumeStatus,
    observed: &Observed,
    memory: &Memory,
    blocked: &[Blocked],
    now: Timestamp,
) -> VolumeStatus {
    let target = target(volume, observed);
    let attached = attached(volume, old, observed, target, now);
    let phase = match (&observed.disks, &attached) {
        (Some(_), Some(_)) => VolumePhase::Attached,
        _ if blocked.iter().any(|b| b.class() == Class::Stalled) => VolumePhase::Failed,
        (Some(_), None) => VolumePhase::Ready,
        (None, _) => VolumePhase::Pending,
    };
    VolumeStatus {
        observed_generation: volume.metadata.generation,
        phase,
        disks: observed
            .disks
            .as_ref()
            .map(|disks| usage(&old.disks, disks, memory, phase != old.phase))
            .unwrap_or_default(),
        created_at: observed.disks.as_ref().and_then(|disks| created_at(disks)).or(old.created_at.clone()),
        attached,
        timings: timings(old, memory, target),
        conditions: conditions(volume, old, observed, target.is_some(), blocked, now),
    }
}

/// The wanted pod's container and guest, if it stands in these disks.
pub fn target<'a>(volume: &Volume, observed: &'a Observed) -> Option<(&'a str, &'a GuestView)> {
    let PodState::Running(container, guest) = &observed.pod else { return None };
    let ours = Standing::Volume(volume.metadata.uid.clone().unwrap_or_default());
    (guest.standing.as_ref() == Some(&ours)).then_some((container.as_str(), guest))
}

fn attached(
    volume: &Volume,
    old: &VolumeStatus,
    observed: &Observed,
    target: Option<(&str, &GuestView)>,
    now: Timestamp,
) -> Option<Attached> {
    let (Some((container, guest)), Some(wanted)) = (target, wanted(volume)) else {
        return old.attached.clone().filter(|old| observed.others.contains(&old.container_id));
    };
    let fresh = Attached {
        pod_name: wanted.pod_name.clone(),
        pod_uid: wanted.pod_uid.clone(),
        container_id: container.to_owned(),
        ..Default::default()
    };
    let mut attached = old.attached.clone().filter(|old| old.container_id == container).unwrap_or(fresh);
    if let Some(service) = &guest.service {
        attached.service_ready = service.ready;
        attached.service_restarts = i32::try_from(service.restarts).unwrap_or(i32::MAX);
        attached.service_message = service.message.clone();
    }
    if guest.connected {
        let shown = guest.idle_since.filter(|since| idle_left(wanted, *since, now).is_zero());
        attached.idle_since = shown.map(|since| Time(whole_seconds(since)));
    }
    attached.service_ready |= wanted.service.is_none();
    Some(attached)
}

/// How long until an idle time is worth showing.
fn idle_left(wanted: &Attachment, since: Timestamp, now: Timestamp) -> Duration {
    let lasted = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let seconds = wanted.idle_shown_after_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(IDLE_SHOWN_AFTER, Duration::from_secs).saturating_sub(lasted)
}

/// When to look again for an idle time that is not shown yet.
pub fn idle_shows_in(
    volume: &Volume,
    target: Option<(&str, &GuestView)>,
    now: Timestamp,
) -> Option<Duration> {
    let (_, guest) = target?;
    let left = idle_left(wanted(volume)?, guest.idle_since.filter(|_| guest.connected)?, now);
    (!left.is_zero()).then_some(left)
}

/// The API keeps whole seconds; what it would cut off must not look like a change.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn created_at(disks: &pool::Volume) -> Option<Time> {
    let text = disks.meta.get("createdAt")?.as_str()?;
    text.parse().ok().map(|time| Time(whole_seconds(time)))
}

fn usage(old: &[DiskUsage], disks: &pool::Volume, memory: &Memory, anew: bool) -> Vec<DiskUsage> {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let each = disks.disks.iter().map(|disk| {
        let before = old.iter().find(|before| before.name == disk.name);
        let measured = memory.usage.iter().find(|usage| usage.disk == disk.name);
        let limit_bytes = disk.limit_bytes.map_or(0, bytes);
        let known = |usage: &DiskUsage| DiskUsage { limit_bytes, ..usage.clone() };
        match (before, measured) {
            (Some(before), Some(now)) => {
                let now = DiskUsage {
                    name: disk.name.clone(),
                    referenced_bytes: bytes(now.referenced_bytes),
                    exclusive_bytes: bytes(now.exclusive_bytes),
                    limit_bytes,
                };
                if anew || moved(before, &now) { now } else { known(before) }
            }
            (Some(before), None) => known(before),
            (None, measured) => DiskUsage {
                name: disk.name.clone(),
                referenced_bytes: measured
                    .map_or(bytes(disk.inherited_bytes), |usage| bytes(usage.referenced_bytes)),
                exclusive_bytes: measured.map_or(0, |usage| bytes(usage.exclusive_bytes)),
                limit_bytes,
            },
        }
    });
    each.collect()
}

/// Whether a usage changed by so much that people want to know.
pub fn moved(old: &DiskUsage, new: &DiskUsage) -> bool {
    let far = |a: i64, b: i64| (a - b).abs() > (a / 100).clamp(USAGE_LEAST, USAGE_STEP);
    far(old.referenced_bytes, new.referenced_bytes) || far(old.exclusive_bytes, new.exclusive_bytes)
}

fn timings(old: &VolumeStatus, memory: &Memory, target: Option<(&str, &GuestView)>) -> Option<VolumeTimings> {
    let mut timings = old.timings.clone().unwrap_or_default();
    if memory.snapshot_micros.is_some() {
        timings.snapshot_micros = memory.snapshot_micros;
    }
    let attach = memory
        .attach
        .as_ref()
        .filter(|attach| target.is_some_and(|(container, _)| container == attach.container));
    if let Some(attach) = attach {
        timings.attach_micros = Some(attach.micros);
        timings.service_micros = attach.service_micros;
    }
    (timings != VolumeTimings::default()).then_some(timings)
}

fn conditions(
    volume: &Volume,
    old: &VolumeStatus,
    observed: &Observed,
    attached: bool,
    blocked: &[Blocked],
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let (generation, now) = (volume.metadata.generation, whole_seconds(now));
    let mut conditions = old.conditions.clone();
    let mut tell = |kind: &'static str, status: bool, good: (Reason, &str), bad: (Reason, &str)| {
        let default = if status { good } else { bad };
        let blocked = blocked.iter().find(|blocked| blocked.condition == kind);
        let (reason, message) =
            blocked.map_or(default, |blocked| (blocked.reason.clone(), blocked.message.as_str()));
        set(&mut conditions, condition(kind, status, reason, message, generation, now));
    };
    let (made, making) = ("the disks are made", "the disks are being made");
    tell(PROVISIONED, observed.disks.is_some(), (Reason::Available, made), (Reason::Provisioning, making));
    let wanted = wanted(volume).is_some();
    if wanted {
        let (is, becomes) =
            ("the disks are the root and mounts of the pod", "the disks are being attached to the pod");
        tell(ATTACHED, attached, (Reason::Attached, is), (Reason::Attaching, becomes));
    }
    let resizing = blocked.iter().any(|blocked| blocked.condition == RESIZED);
    if resizing {
        tell(RESIZED, false, (Reason::Available, ""), (Reason::SizeTooSmall, ""));
    }
    if !wanted {
        remove(&mut conditions, ATTACHED);
    }
    if !resizing {
        remove(&mut conditions, RESIZED);
    }
    let (class, reason, message) = outlook(blocked, observed.disks.is_some() && (attached || !wanted));
    set_class(&mut conditions, (class, reason), message, generation, now);
    conditions
}

/// The class of the whole, which is that of the worst obstacle.
fn outlook(blocked: &[Blocked], done: bool) -> (Class, &Reason, &str) {
    match blocked.iter().max_by_key(|blocked| blocked.class()) {
        Some(worst) if worst.class() > Class::Settled => (worst.class(), &worst.reason, &worst.message),
        _ if done => (Class::Settled, &Reason::Available, ""),
        _ => (Class::Waiting, &Reason::Provisioning, "the disks are being made or attached"),
    }
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changed.
    Same,
    /// At once.
    Now,
    /// After this time.
    Later(Duration),
}

/// Decides. `last` is how long ago the last write was, and how many came in quick succession; `hold` is how much
/// longer to wait for the service, so that a fork costs one write.
pub fn decide(
    old: &VolumeStatus,
    new: &VolumeStatus,
    last: Option<(Duration, u32)>,
    hold: Option<Duration>,
) -> Decision {
    if old == new {
        return Decision::Same;
    }
    if let Some(hold) = hold {
        return Decision::Later(hold);
    }
    let Some((since, burst)) = last else { return Decision::Now };
    let pause = SOFT_INTERVAL.checked_sub(since).filter(|pause| !pause.is_zero());
    match pause {
        Some(pause) if burst >= MAX_BURST || is_soft(old, new) => Decision::Later(pause),
        _ => Decision::Now,
    }
}

/// Whether only usage or a guest's words changed, other than that the service is ready for the first time.
fn is_soft(old: &VolumeStatus, new: &VolumeStatus) -> bool {
    let hard = |status: &VolumeStatus| {
        let attached = status.attached.clone().map(|attached| Attached {
            service_ready: false,
            service_restarts: 0,
            service_message: None,
            idle_since: None,
            ..attached
        });
        let limits = status.disks.iter().map(|disk| disk.limit_bytes).collect::<Vec<_>>();
        (VolumeStatus { attached, disks: vec![], ..status.clone() }, limits)
    };
    hard(old) == hard(new)
}

/// What the owner is told in events: obstacles that are new, and that a pod was attached anew.
pub fn news(old: &VolumeStatus, new: &VolumeStatus) -> Vec<(Reason, bool, String)> {
    let obstacles = new.conditions.iter().filter(|now| now.type_ != STALLED).filter_map(|now| {
        let reason = Reason::from(now.reason.as_str());
        if reason.class() <= Class::Waiting {
            return None;
        }
        let told = find(&old.conditions, &now.type_).is_some_and(|before| before.reason == now.reason);
        (!told).then(|| (reason, true, now.message.clone()))
    });
    let mut news: Vec<_> = obstacles.collect();
    if let (Some(before), Some(now)) = (&old.attached, &new.attached)
        && before.container_id != now.container_id
        && is_true(&new.conditions, ATTACHED)
    {
        let text = format!("the disks were attached again, to pod {}", now.pod_name);
        news.push((Reason::Reattached, false, text));
    }
    news
}

/// Notes how long the service took, the first time that it is ready after an attach.
pub fn note_ready(memory: &mut Memory, target: Option<(&str, &GuestView)>) {
    let (Some(attach), Some((container, guest))) = (memory.attach.as_mut(), target) else { return };
    if let (true, None, Some(ready)) = (attach.container == container, attach.service_micros, guest.ready_at)
    {
        attach.service_micros = Some(micros(ready.saturating_duration_since(attach.at)));
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
