//! What is known about one Spark.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{ForkSource, Spark, SparkStatus, Volume, VolumeSource, labels};
use sparks_plan::{
    progress::Blocked,
    spark::{
        Observed, Source, SshFound, Start, asleep, from_checkpoint, from_spark, of_image, restore_source,
    },
};

use crate::context::Context;

/// All but the keys of its SSH server, which may have to be asked for.
pub fn gather(spark: &Arc<Spark>, context: &Context) -> Observed {
    let hub = &context.hub;
    let namespace = spark.namespace().unwrap_or_default();
    let uid = spark.uid().unwrap_or_default();
    let live = hub.live_volume(spark);
    Observed {
        source: source(spark, context, &namespace),
        restore: restore(spark, context, &namespace, live.as_deref()),
        volumes: hub.volumes_of(&namespace, &uid, false),
        undelete: undelete(spark, context, &namespace),
        pods: pods(context, &namespace, &uid),
        import_pod: live.as_deref().and_then(|volume| hub.import_pod(volume)),
        service: hub.service(&namespace, &spark.name_any()),
        warm: warm(context, &namespace, &uid),
        agents: hub.agents(),
        ssh: SshFound::default(),
        start: start(spark, context, &uid),
        template: context.template.clone(),
        spark: spark.clone(),
        now: Timestamp::now(),
    }
}

/// A start is timed while the Spark is to run and does not yet.
fn start(spark: &Spark, context: &Context, uid: &str) -> Start {
    let up = spark.status.as_ref().is_some_and(SparkStatus::is_up);
    if up || !spark.spec.lifecycle.running || asleep(spark) {
        context.memory.started(uid);
        return Start { age: std::time::Duration::MAX, ..Start::default() };
    }
    context.memory.start(uid)
}

fn source(spark: &Spark, context: &Context, namespace: &str) -> Result<Source, Blocked> {
    match (&spark.spec.from, &spark.spec.image) {
        (Some(from), _) => fork_source(from, context, namespace),
        (None, image) => Ok(of_image(namespace, image.as_deref().unwrap_or_default())),
    }
}

fn fork_source(from: &ForkSource, context: &Context, namespace: &str) -> Result<Source, Blocked> {
    let there = from.namespace.as_deref().unwrap_or(namespace);
    if let Some(name) = &from.checkpoint {
        let checkpoint = context.hub.checkpoint(there, name);
        let volume = checkpoint
            .as_ref()
            .and_then(|c| context.hub.volumes_of(there, &c.uid()?, false).first().cloned());
        return from_checkpoint(namespace, (there, name), checkpoint.as_deref(), volume.as_deref());
    }
    let name = from.spark.as_deref().unwrap_or_default();
    let source = context.hub.spark(there, name);
    let volume = source.as_ref().and_then(|source| context.hub.live_volume(source));
    from_spark(namespace, (there, name), source.as_deref(), volume.as_deref())
}

fn restore(
    spark: &Spark,
    context: &Context,
    namespace: &str,
    live: Option<&Volume>,
) -> Option<Result<VolumeSource, Blocked>> {
    let restore = spark.spec.restore.as_ref()?;
    let checkpoint = context.hub.checkpoint(namespace, &restore.checkpoint);
    let volume = checkpoint
        .as_ref()
        .and_then(|c| context.hub.volumes_of(namespace, &c.uid()?, false).first().cloned());
    Some(restore_source(restore, checkpoint.as_deref(), volume.as_deref(), &live?.spec.node_name))
}

fn undelete(spark: &Spark, context: &Context, namespace: &str) -> Option<Arc<Volume>> {
    let uid = spark.annotations().get(labels::UNDELETE)?;
    let trashed = context.hub.volumes_of(namespace, uid, true);
    trashed.into_iter().max_by_key(|volume| volume.spec.trashed_at.as_ref().map(|at| at.0))
}

/// Its pods in the cache, and the one that was claimed for it and has not come back through the watch yet.
fn pods(context: &Context, namespace: &str, uid: &str) -> Vec<Arc<Pod>> {
    let mut pods = context.hub.pods_of(uid);
    let claimed = context.hub.pods.find(|pod| {
        pod.namespace().as_deref() == Some(namespace)
            && context.memory.holder(&pod.uid().unwrap_or_default()).as_deref() == Some(uid)
    });
    if let Some(claimed) = claimed.filter(|claimed| pods.iter().all(|pod| pod.uid() != claimed.uid())) {
        pods.push(claimed);
    }
    pods
}

/// Free pods that are not reserved for another Spark.
fn warm(context: &Context, namespace: &str, uid: &str) -> Vec<Arc<Pod>> {
    let mut warm = context.hub.warm_pods(namespace);
    warm.retain(|pod| {
        context.memory.holder(&pod.uid().unwrap_or_default()).is_none_or(|holder| holder == uid)
    });
    warm
}
