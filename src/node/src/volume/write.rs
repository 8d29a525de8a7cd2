//! The one write of a reconcile.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use sparks_api::{Reason, Volume, VolumeStatus, conditions::PROVISIONED, labels};
use tokio::time::Instant;

use super::{
    apply::Applied,
    blocked::Blocked,
    memory,
    plan::{Observed, PodState, wanted},
    status::{self, Decision},
};
use crate::{agent::Agent, guest::Standing, metrics::operation, triggers};

/// Who writes.
pub const MANAGER: &str = "sparks-node";
/// How long an attach may take to begin until the status is written without it: the claim of the pod comes by another
/// watch than the Volume, mostly within milliseconds of it, and in a burst of forks they all wait for one processor.
const ATTACH_PATIENCE: Duration = Duration::from_millis(500);
/// After this, the watch has shown the last write, and what it shows counts, whoever wrote it.
const WATCH_LAG: Duration = Duration::from_secs(10);

/// What came of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It says what is.
    Yes,
    /// To be done after this time.
    Later(Duration),
    /// The API server refused or couldn't be reached.
    Failed,
}

/// A write to an API server that doesn't answer must not keep its Volume from being looked at again.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
}

impl WriteError {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}

async fn patient<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    Ok(tokio::time::timeout(API_TIMEOUT, call).await??)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() }
}

fn api(agent: &Agent, volume: &Volume) -> Api<Volume> {
    Api::namespaced(agent.client.clone(), &volume.namespace().unwrap_or_default())
}

/// Writes the status if it changed; `worked` is since when, if this reconcile did something.
pub async fn settle(
    agent: &Arc<Agent>,
    volume: &Volume,
    observed: &Observed,
    applied: &Applied,
    worked: Option<Instant>,
) -> Written {
    let uid = volume.uid().unwrap_or_default();
    let target = status::target(volume, observed);
    let memory = agent.memories.with(&uid, |memory| {
        status::note_ready(memory, target);
        if memory.began.is_none() {
            memory.began = worked;
        }
        memory.clone()
    });
    let last = memory.written.as_ref().map(|written| (written.at.elapsed(), written.burst));
    let known = match &memory.written {
        Some(written) if written.at.elapsed() < WATCH_LAG => written.status.clone(),
        _ => volume.status.clone().unwrap_or_default(),
    };
    let new = status::describe(volume, &known, observed, &memory, &applied.blocked, Timestamp::now());
    let hold =
        hold(agent, volume, &memory, observed).or_else(|| hold_for_claim(volume, &memory, observed, applied));
    match status::decide(&known, &new, last, hold) {
        Decision::Same => agent.memories.with(&uid, |memory| memory.began = None),
        Decision::Later(pause) => return Written::Later(pause),
        Decision::Now => {
            if !write(agent, volume, &uid, &known, new, last).await {
                return Written::Failed;
            }
        }
    }
    // Nothing comes by the watch at that time, nor for what was written here.
    status::idle_shows_in(volume, target, Timestamp::now()).map_or(Written::Yes, Written::Later)
}

/// How much longer to wait for the guest's word on the service, so that the attach and its readiness are one write.
fn hold(agent: &Agent, volume: &Volume, memory: &memory::Memory, observed: &Observed) -> Option<Duration> {
    let (container, guest) = status::target(volume, observed)?;
    let attach = memory.attach.as_ref().filter(|attach| attach.container == container)?;
    let waiting = guest.connected && guest.ready_at.is_none();
    agent.config.service_patience.checked_sub(attach.at.elapsed()).filter(|left| waiting && !left.is_zero())
}

/// How much longer to wait for the attach, so that new disks and their attach are one write. What keeps it for longer
/// than a claim in flight is told at once.
fn hold_for_claim(
    volume: &Volume,
    memory: &memory::Memory,
    observed: &Observed,
    applied: &Applied,
) -> Option<Duration> {
    wanted(volume)?;
    let began =
        memory.began.filter(|_| observed.disks.is_some() && status::target(volume, observed).is_none())?;
    let in_flight = match &observed.pod {
        PodState::Foreign => true,
        PodState::Running(_, guest) => guest.standing == Some(Standing::Image),
        PodState::Unwanted | PodState::Unseen | PodState::NotRunning => false,
    };
    let ordinary = applied.blocked.iter().all(|blocked| blocked.reason == Reason::Attaching);
    let left = ATTACH_PATIENCE.checked_sub(began.elapsed())?;
    (in_flight && ordinary && observed.others.is_empty() && !left.is_zero()).then_some(left)
}

/// Whether it could be written, or has nobody left to read it.
async fn write(
    agent: &Arc<Agent>,
    volume: &Volume,
    uid: &str,
    known: &VolumeStatus,
    new: VolumeStatus,
    last: Option<(Duration, u32)>,
) -> bool {
    let started = Instant::now();
    let patch = json!({"metadata": {"uid": uid}, "status": complete(&new)});
    let name = volume.name_any();
    let written = patient(api(agent, volume).patch_status(&name, &params(), &Patch::Merge(&patch))).await;
    if let Err(error) = written {
        if error.is_gone() {
            return true;
        }
        tracing::warn!(volume = %triggers::key(volume), %error, "the status could not be written");
        agent.metrics.failed(operation::STATUS, "ApiError");
        return false;
    }
    agent.metrics.took(operation::STATUS, started.elapsed());
    let burst = last.filter(|(since, _)| *since < Duration::from_secs(1)).map_or(0, |(_, burst)| burst + 1);
    let news = status::news(known, &new);
    let began = agent.memories.with(uid, |memory| {
        memory.written = Some(memory::Written { at: Instant::now(), burst, status: new });
        memory.began.take()
    });
    if let Some(began) = began {
        agent.metrics.took(operation::TOTAL, began.elapsed());
        tracing::info!(volume = %triggers::key(volume), took = ?began.elapsed(), "settled");
    }
    agent.events.publish(volume, news);
    true
}

/// A merge patch keeps what it doesn't name, so that all that is empty is named.
fn complete(status: &VolumeStatus) -> Value {
    let mut value = json!(status);
    fill(&mut value, &["observedGeneration", "disks", "createdAt", "attached", "timings", "conditions"]);
    if let Some(attached) = value.get_mut("attached") {
        fill(attached, &["serviceMessage", "idleSince"]);
    }
    if let Some(timings) = value.get_mut("timings") {
        fill(timings, &["snapshotMicros", "attachMicros", "serviceMicros"]);
    }
    value
}

fn fill(value: &mut Value, names: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        for name in names {
            object.entry(*name).or_insert(Value::Null);
        }
    }
}

/// Lets the object go. The resource version makes sure that nobody else's finalizer is lost.
pub async fn remove_finalizer(agent: &Arc<Agent>, volume: &Volume) -> Result<(), Blocked> {
    let rest: Vec<&String> =
        volume.finalizers().iter().filter(|finalizer| *finalizer != labels::VOLUME_FINALIZER).collect();
    let patch = json!({"metadata": {
        "uid": volume.uid(),
        "resourceVersion": volume.resource_version(),
        "finalizers": rest,
    }});
    let (api, name) = (api(agent, volume), volume.name_any());
    match patient(api.patch_metadata(&name, &params(), &Patch::Merge(&patch))).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => {
            agent.metrics.failed(operation::TRASH, "ApiError");
            let message = format!("the finalizer of the volume could not be removed: {error}");
            Err(Blocked::new(PROVISIONED, Reason::HostError, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_all_that_is_empty_so_that_a_merge_clears_it() {
        let status = VolumeStatus { attached: Some(Default::default()), ..Default::default() };
        let value = complete(&status);
        assert!(
            value["createdAt"].is_null() && value.as_object().is_some_and(|o| o.contains_key("createdAt"))
        );
        assert!(value["attached"].as_object().is_some_and(|o| o.contains_key("idleSince")));
        assert!(value.as_object().is_some_and(|o| o.contains_key("conditions")));
    }
}
