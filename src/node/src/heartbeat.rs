//! Keeps the size of the pool and the public key on the agent's own pod, where the controller reads them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sparks_api::labels;

use crate::{agent::Agent, volume::write::MANAGER};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(20);
/// After this many looks it is written though it changed little, in case that somebody else changed it.
const ANYWAY: u32 = 30;

/// Size of the pool, and what is free in it beyond the reserve.
type Room = (u64, u64);

/// Runs for as long as the agent does.
pub async fn run(agent: Arc<Agent>) {
    let (mut told, mut looks): (Option<Room>, u32) = (None, 0);
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        agent.metrics.attached.set(i64::try_from(agent.guests.attached()).unwrap_or(i64::MAX));
        let Some(room) = room(&agent).await else { continue };
        looks += 1;
        if (told.is_none_or(|told| changed(told, room)) || looks >= ANYWAY) && tell(&agent, room).await {
            (told, looks) = (Some(room), 0);
        }
    }
}

async fn room(agent: &Arc<Agent>) -> Option<Room> {
    match agent.blocking(|host| host.stats()).await {
        Ok(Ok(stats)) => {
            agent.metrics.pool_size.set(i64::try_from(stats.size_bytes).unwrap_or(i64::MAX));
            agent.metrics.pool_free.set(i64::try_from(stats.free_bytes).unwrap_or(i64::MAX));
            Some((stats.size_bytes, stats.free_bytes.saturating_sub(stats.reserve_bytes)))
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the pool could not be measured");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the pool could not be measured");
            None
        }
    }
}

/// By more than a hundredth of the pool, or from or to nothing.
fn changed(told: Room, now: Room) -> bool {
    told.0 != now.0 || told.1.abs_diff(now.1) > now.0 / 100 || (told.1 == 0) != (now.1 == 0)
}

async fn tell(agent: &Agent, (size, free): Room) -> bool {
    let patch = json!({"metadata": {"annotations": {
        labels::POOL_SIZE: size.to_string(),
        labels::POOL_FREE: free.to_string(),
        labels::PUBLIC_KEY: agent.key.public_hex(),
    }}});
    let pods: Api<Pod> = Api::namespaced(agent.client.clone(), &agent.config.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    let told = pods.patch_metadata(&agent.config.pod_name, &params, &Patch::Merge(&patch)).await;
    if let Err(error) = &told {
        tracing::warn!(%error, "the agent's own pod could not be annotated; no new Spark comes to this node");
    }
    told.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_not_written_and_a_pool_that_fills_up_is() {
        let told = (1000, 500);
        assert!(!changed(told, (1000, 495)));
        assert!(changed(told, (1000, 480)));
        assert!(changed(told, (2000, 500)), "the pool grew");
        assert!(changed((1000, 5), (1000, 0)), "nothing is free any more");
    }
}
