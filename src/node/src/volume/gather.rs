//! What there is for a Volume. Only [`others`] asks the machine, and only where a container is left over from before.

use std::sync::Arc;

use kube::ResourceExt;
use sparks_api::{NamespacedName, Volume};
use sparks_host::Host;

use super::{
    memory,
    plan::{Observed, PodState, SourceState, wanted},
};
use crate::{agent::Agent, computer, exits, guest::Standing, triggers};

/// Living containers that stand in the Volume's disks, except the present one of the pod that is wanted.
pub async fn others(agent: &Arc<Agent>, volume: &Volume) -> Vec<String> {
    let uid = volume.uid().unwrap_or_default();
    let present = wanted(volume).and_then(|wanted| {
        let pod = agent.pods.get(&pod_key(volume, &wanted.pod_name))?;
        pod.running().filter(|_| pod.uid == wanted.pod_uid).map(str::to_owned)
    });
    let mut suspects: Vec<String> =
        agent.guests.standing_in(&uid).into_iter().map(|guest| guest.container.clone()).collect();
    // A container whose pod object is gone is known from the status only, and after a restart of the agent one that
    // was not looked at yet.
    let told = volume
        .status
        .as_ref()
        .and_then(|status| status.attached.as_ref())
        .map(|attached| &attached.container_id);
    let unknown = |id: &&String| agent.guests.get(id).is_none_or(|guest| guest.view().standing.is_none());
    suspects.extend(told.filter(unknown).cloned());
    suspects.retain(|id| Some(id) != present.as_ref());
    if suspects.is_empty() {
        return suspects;
    }
    let (owner, all) = (uid.clone(), suspects.clone());
    let asked = agent.blocking(move |host| {
        suspects.into_iter().map(|id| (look(host, &id, &owner), id)).collect::<Vec<_>>()
    });
    // Doubt counts as alive.
    let found = asked.await.unwrap_or_else(|_| all.into_iter().map(|id| (Found::Here, id)).collect());
    tracing::debug!(uid, ?found, "containers of before");
    let mut alive = Vec::new();
    for (found, id) in found {
        match found {
            Found::Here => {
                agent.exits.watch(&id, &triggers::key(volume));
                alive.push(id);
            }
            Found::Elsewhere => {}
            Found::Gone => agent.guests.forget(&id),
        }
    }
    alive
}

/// Where a container of before is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It lives and stands in this Volume, or that can't be told: a disk is never in two pods.
    Here,
    /// It lives and stands in something else by now.
    Elsewhere,
    /// It has ended.
    Gone,
}

fn look(host: &dyn Host, container: &str, uid: &str) -> Found {
    if exits::is_gone(host, container) {
        return Found::Gone;
    }
    match host.attached_disk(container) {
        Ok(Some(disk)) if disk.volume_uid == uid => Found::Here,
        Ok(_) => Found::Elsewhere,
        Err(_) if exits::is_gone(host, container) => Found::Gone,
        Err(_) => Found::Here,
    }
}

fn pod_key(volume: &Volume, pod: &str) -> NamespacedName {
    NamespacedName::new(volume.metadata.namespace.as_deref().unwrap_or_default(), pod)
}

/// What the agent knows without asking anybody.
pub fn observe(agent: &Agent, volume: &Volume, others: &[String]) -> Observed {
    let uid = volume.uid().unwrap_or_default();
    let disks = agent.inventory.volume(&uid);
    let source = if disks.is_some() { SourceState::Empty } else { source(agent, volume) };
    let pod = pod(agent, volume);
    let rival = match &pod {
        PodState::Running(_, guest) => rival(agent, volume, guest.standing.as_ref()),
        _ => None,
    };
    let quiescing = match &pod {
        PodState::Running(_, guest) => guest.quiesce_sent.map(|sent| sent.elapsed()),
        _ => None,
    };
    Observed {
        disks,
        source,
        pod,
        others: others.to_vec(),
        rival,
        computer: computer(agent, volume, &uid),
        quiescing,
    }
}

fn source(agent: &Agent, volume: &Volume) -> SourceState {
    if let Some(image) = &volume.spec.source.image {
        return match agent.inventory.has_image(&image.key) {
            true => SourceState::Image,
            false => SourceState::ImageMissing(agent.imports.error(&image.key)),
        };
    }
    let Some(from) = &volume.spec.source.volume else { return SourceState::Empty };
    match agent.inventory.volume(&from.uid) {
        Some(source) => SourceState::Volume(source.disks.iter().map(|disk| disk.name.clone()).collect()),
        None => match agent.triggers.find(&from.uid) {
            Some(source) if source.metadata.deletion_timestamp.is_none() => SourceState::VolumeNotReady,
            _ => SourceState::VolumeMissing,
        },
    }
}

fn pod(agent: &Agent, volume: &Volume) -> PodState {
    let Some(wanted) = wanted(volume) else { return PodState::Unwanted };
    let key = pod_key(volume, &wanted.pod_name);
    let Some(pod) = agent.pods.get(&key) else { return PodState::Unseen };
    let owner = volume.labels().get(sparks_api::labels::OWNER_UID);
    if pod.uid != wanted.pod_uid || owner.is_none() || pod.spark_uid.as_ref() != owner {
        return PodState::Foreign;
    }
    let Some(container) = pod.running() else { return PodState::NotRunning };
    agent.guests.meet(container, &key);
    let view = agent.guests.get(container).map(|guest| guest.view()).unwrap_or_default();
    PodState::Running(container.to_owned(), Box::new(view))
}

/// The other Volume in which the container stands, if that one still wants the same pod.
fn rival(agent: &Agent, volume: &Volume, standing: Option<&Standing>) -> Option<String> {
    let Some(Standing::Volume(uid)) = standing else { return None };
    let other = agent.triggers.find(uid).filter(|other| other.uid() != volume.uid())?;
    let same = wanted(&other)?.pod_uid == wanted(volume)?.pod_uid;
    same.then(|| other.name_any())
}

/// What the guest is to be. What is sealed is opened once, because that takes longer than the rest of a reconcile.
fn computer(agent: &Agent, volume: &Volume, uid: &str) -> Result<sparks_proto::Computer, String> {
    let Some(wanted) = wanted(volume) else { return Ok(Default::default()) };
    let host_key = wanted.ssh.as_ref().and_then(|ssh| ssh.sealed_host_key.as_ref());
    let hash = memory::hash(&(&wanted.sealed_env, host_key));
    let known = agent.memories.with(uid, |memory| memory.opened.clone()).filter(|(of, _)| *of == hash);
    let opened = match known {
        Some((_, opened)) => opened,
        None => {
            let env = wanted.sealed_env.as_ref().map(|sealed| agent.key.open(sealed)).transpose();
            let host_key = host_key.map(|sealed| agent.key.open_key(sealed)).transpose();
            let opened = computer::Opened {
                env: env.map_err(|error| error.to_string())?.unwrap_or_default(),
                host_key: host_key.map_err(|error| error.to_string())?,
            };
            agent.memories.with(uid, |memory| memory.opened = Some((hash, opened.clone())));
            opened
        }
    };
    Ok(computer::computer(wanted, volume.namespace(), opened))
}
