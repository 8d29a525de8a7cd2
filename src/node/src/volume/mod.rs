//! What happens to one Volume: `gather` → `plan` → `apply` → `status`, and one write.

pub mod apply;
pub mod blocked;
pub mod gather;
pub mod memory;
pub mod plan;
pub mod status;
pub mod write;

#[cfg(test)]
mod flow_tests;

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use sparks_api::NamespacedName;
use sparks_ops::queue::Again;
use tokio::time::Instant;

use crate::agent::Agent;

/// Brings one Volume nearer to its spec; `since` is when the reason for it came.
pub async fn reconcile(agent: Arc<Agent>, key: NamespacedName, since: Instant) -> Again {
    let Some(volume) = agent.triggers.volumes.get(&ObjectRef::new(&key.name).within(&key.namespace)) else {
        return Again::OnChange;
    };
    let others = gather::others(&agent, &volume).await;
    let observed = gather::observe(&agent, &volume, &others);
    let plan = plan::plan(&volume, &observed, agent.config.trash_retention, Timestamp::now());
    let works = !plan.steps.is_empty();
    let mut applied = apply::apply(&agent, &volume, plan).await;
    if volume.metadata.deletion_timestamp.is_some() {
        return applied.again();
    }
    let observed = gather::observe(&agent, &volume, &others);
    let written = write::settle(&agent, &volume, &observed, &applied, works.then_some(since)).await;
    applied.retry(written);
    applied.again()
}
