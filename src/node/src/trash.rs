//! Empties the trash, and finds disks that no Volume names.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::Api;
use sparks_api::Volume;

use crate::{agent::Agent, metrics::operation};

/// How often.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long disks may be without a Volume before they go into the trash.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs for as long as the agent does, once it knows all Volumes.
pub async fn run(agent: Arc<Agent>) {
    let mut orphans = HashMap::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        reap(&agent).await;
        look_for_orphans(&agent, &mut orphans).await;
        agent.memories.retain(|uid| agent.triggers.find(uid).is_some());
    }
}

async fn reap(agent: &Arc<Agent>) {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    match agent.blocking(move |host| host.reap_trash(now)).await {
        Ok(Ok(reaped)) => {
            reaped
                .deleted
                .iter()
                .for_each(|uid| tracing::info!(uid, "deleted from the trash, its retention is over"));
            for (uid, error) in reaped.failed {
                tracing::warn!(uid, %error, "could not be deleted from the trash; it is tried again");
                agent.metrics.failed(operation::TRASH, "HostError");
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the trash could not be emptied");
            agent.metrics.failed(operation::TRASH, "HostError");
        }
        Err(error) => tracing::warn!(%error, "the trash could not be emptied"),
    }
}

/// Disks without a Volume go into the trash, from which they can be restored; they are never deleted outright.
async fn look_for_orphans(agent: &Arc<Agent>, since: &mut HashMap<String, Instant>) {
    let candidates = candidates(agent);
    since.retain(|uid, _| candidates.contains(uid));
    for uid in candidates {
        let age = since.entry(uid.clone()).or_insert_with(Instant::now).elapsed();
        if age >= PATIENCE && nobody_has(agent, &uid).await {
            trash(agent, &uid).await;
        }
    }
}

fn candidates(agent: &Agent) -> Vec<String> {
    // A Volume that this version can't read may be any of them.
    if agent.unreadable.any() {
        return Vec::new();
    }
    agent.inventory.uids().into_iter().filter(|uid| agent.triggers.find(uid).is_none()).collect()
}

/// Asks the API server: the watch sees only this node's Volumes, and a wrong node name must not empty a pool.
async fn nobody_has(agent: &Agent, uid: &str) -> bool {
    let Some(disks) = agent.inventory.volume(uid) else { return false };
    let text = |name: &str| disks.meta.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let (Some(namespace), Some(name)) = (text("namespace"), text("name")) else {
        tracing::warn!(uid, "disks that no Volume names, and that don't say whose they were, are left alone");
        return false;
    };
    match Api::<Volume>::namespaced(agent.client.clone(), &namespace).get_metadata_opt(&name).await {
        Ok(found) => {
            let gone = found.is_none_or(|found| found.metadata.uid.as_deref() != Some(uid));
            if !gone {
                tracing::warn!(
                    uid,
                    namespace,
                    name,
                    "the Volume of these disks is on another node; they are left alone"
                );
            }
            gone && agent.guests.standing_in(uid).is_empty()
        }
        Err(error) => {
            tracing::warn!(uid, %error, "it can't be told whether anybody has these disks; they are left alone");
            false
        }
    }
}

async fn trash(agent: &Arc<Agent>, uid: &str) {
    let deadline = Timestamp::now().saturating_add(agent.config.trash_retention).unwrap_or(Timestamp::MAX);
    let deadline = u64::try_from(deadline.as_second()).unwrap_or(u64::MAX);
    let of = uid.to_owned();
    match agent.blocking(move |host| host.trash_volume(&of, deadline)).await {
        Ok(Ok(())) => {
            tracing::warn!(uid, "disks that no Volume names went into the trash");
            agent.metrics.orphans.inc();
            agent.inventory.remove(uid);
        }
        Ok(Err(error)) => {
            tracing::warn!(uid, %error, "disks that no Volume names could not go into the trash")
        }
        Err(error) => tracing::warn!(uid, %error, "disks that no Volume names could not go into the trash"),
    }
}
