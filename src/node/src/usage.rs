//! Measures what the disks hold.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;

use crate::{agent::Agent, triggers, volume::status};

/// How often each Volume is measured.
const INTERVAL: Duration = Duration::from_secs(30);

/// Runs for as long as the agent does. The Volumes are spread over the interval, so that they don't all write at once.
pub async fn run(agent: Arc<Agent>) {
    loop {
        let volumes = agent.triggers.volumes.state();
        let pause = INTERVAL / u32::try_from(volumes.len().max(1)).unwrap_or(u32::MAX);
        if volumes.is_empty() {
            tokio::time::sleep(INTERVAL).await;
        }
        for volume in volumes {
            tokio::time::sleep(pause).await;
            let uid = volume.uid().unwrap_or_default();
            if agent.inventory.volume(&uid).is_none() {
                continue;
            }
            let of = uid.clone();
            match agent.blocking(move |host| host.usage(&of)).await {
                Ok(Ok(usage)) => {
                    let known = volume.status.as_ref().map(|status| status.disks.clone()).unwrap_or_default();
                    let moved = usage.iter().any(|now| {
                        let before = known.iter().find(|before| before.name == now.disk);
                        before.is_none_or(|before| status::moved(before, &api(now)))
                    });
                    agent.memories.with(&uid, |memory| memory.usage = usage);
                    if moved {
                        agent.triggers.queue.trigger(triggers::key(&volume));
                    }
                }
                Ok(Err(error)) => tracing::debug!(uid, %error, "a volume could not be measured"),
                Err(error) => tracing::debug!(uid, %error, "a volume could not be measured"),
            }
        }
    }
}

/// A measurement as the API has it.
pub fn api(usage: &sparks_host::pool::DiskUsage) -> sparks_api::DiskUsage {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sparks_api::DiskUsage {
        name: usage.disk.clone(),
        referenced_bytes: bytes(usage.referenced_bytes),
        exclusive_bytes: bytes(usage.exclusive_bytes),
        limit_bytes: usage.limit_bytes.map_or(0, bytes),
    }
}
