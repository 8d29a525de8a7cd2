//! Writes what the plan wants.

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use sparks_api::{SparkPool, SparkPoolStatus};
use sparks_plan::{pool::Plan, progress::Progress};

use crate::{
    api_error::{ignore_not_found, refused},
    context::Context,
};

/// Creates at once.
const CONCURRENCY: usize = 4;

/// Key under which a created pod is remembered.
pub fn created_key(namespace: &str, pool: &str, pod: &str) -> String {
    format!("{namespace}/{pool}/{pod}")
}

pub async fn apply(context: &Context, pool: &SparkPool, plan: &Plan) -> Result<(), kube::Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let pods = context.api::<Pod>(&namespace);
    for some in plan.create.chunks(CONCURRENCY) {
        try_join_all(some.iter().map(|(node, pod)| create(context, pool, node, pod))).await?;
    }
    for pod in &plan.delete {
        // A pod that somebody claimed since it was read is not the pool's any more.
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: pod.resource_version() });
        let exactly = DeleteParams { grace_period_seconds: Some(0), preconditions, ..Default::default() };
        ignore_not_found(pods.delete(&pod.name_any(), &exactly).await)?;
    }
    Ok(())
}

async fn create(context: &Context, pool: &SparkPool, node: &str, pod: &Pod) -> Result<(), kube::Error> {
    let namespace = pool.namespace().unwrap_or_default();
    context.api::<Pod>(&namespace).create(&PostParams::default(), pod).await?;
    context.memory.created(created_key(&namespace, &pool.name_any(), &pod.name_any()), node.to_owned());
    Ok(())
}

/// The planned status, or the API server's refusal.
pub fn status(plan: &Plan, applied: &Result<(), kube::Error>, pool: &SparkPool) -> SparkPoolStatus {
    let mut status = plan.status.clone();
    if let Some(blocked) = applied.as_ref().err().and_then(refused) {
        Progress::Blocked(blocked).write(&mut status.conditions, pool.metadata.generation, Timestamp::now());
    }
    status
}
