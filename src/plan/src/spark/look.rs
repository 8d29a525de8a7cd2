//! What one pass of a Spark depends on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{
    Checkpoint, ForkSource, NamespacedName, Reason, Spark, SparkStatus, Uid, Volume, VolumeSource, labels,
};

use super::{
    observed::{Observed, Start},
    sleep::asleep,
    source::{Source, from_checkpoint, from_spark, of_image, restore_source},
    ssh::SshFound,
};
use crate::{
    index::Relation, kind::Kind, known::Known, placement, pods, progress::Blocked, volume, world::World,
};

/// All but the keys of its SSH server, which may have to be asked for.
pub(super) fn look(spark: &Known<Spark>, world: &World<'_>) -> Observed {
    let volumes: Vec<_> = volume::owned(world.index, spark.namespace(), &spark.id.uid).cloned().collect();
    let live = volume::live(spark, &volumes).cloned();
    Observed {
        source: source(spark, world),
        restore: restore(spark, world, live.as_ref()),
        undelete: undelete(spark, world),
        pods: its_pods(spark, world),
        import_pod: live.as_ref().and_then(|volume| volume::import_pod(volume, world.index)).cloned(),
        import_refused: live.as_ref().and_then(|volume| world.memory.refusal(&Volume::reference(volume))),
        service: world.index.get(&spark.id.name).cloned(),
        warm: warm(spark, world),
        agents: placement::agents(world.index),
        ssh: SshFound::default(),
        start: start(spark, world),
        template: world.settings.template.clone(),
        retention: world.settings.retention,
        spark: spark.clone(),
        now: world.now.wall,
        live,
        volumes,
    }
}

/// A start is timed while the Spark is to run and does not yet.
fn start(spark: &Known<Spark>, world: &World<'_>) -> Start {
    let up = spark.status.as_ref().is_some_and(SparkStatus::is_up);
    if up || !spark.spec.lifecycle.running || asleep(spark) {
        world.memory.started(&spark.id.uid);
        return Start { age: Duration::MAX, ..Start::default() };
    }
    world.memory.start(&spark.id.uid, world.now)
}

fn source(spark: &Known<Spark>, world: &World<'_>) -> Result<Source, Blocked> {
    match (&spark.spec.from, &spark.spec.image) {
        (Some(from), _) => fork_source(from, spark.namespace(), world),
        (None, Some(image)) => Ok(of_image(spark.namespace(), image)),
        (None, None) => Err(Blocked::new(
            Reason::SourceNotFound,
            "neither spec.image nor spec.from is set: create it again with one of them",
        )),
    }
}

fn fork_source(from: &ForkSource, namespace: &str, world: &World<'_>) -> Result<Source, Blocked> {
    let there = from.namespace.as_deref().unwrap_or(namespace);
    let at = |name: &str| NamespacedName::new(there, name);
    match (&from.checkpoint, &from.spark) {
        (Some(name), _) => {
            let checkpoint = world.index.get::<Checkpoint>(&at(name));
            let volume = checkpoint.and_then(|c| volume::owned(world.index, there, &c.id.uid).next());
            from_checkpoint(namespace, (there, name), checkpoint, volume)
        }
        (None, name) => {
            let name = name.as_deref().unwrap_or("");
            let source = world.index.get::<Spark>(&at(name));
            let volume = source.and_then(|source| volume::live_of(source, world.index));
            from_spark(namespace, (there, name), source, volume.as_ref())
        }
    }
}

fn restore(
    spark: &Known<Spark>,
    world: &World<'_>,
    live: Option<&Known<Volume>>,
) -> Option<Result<VolumeSource, Blocked>> {
    let restore = spark.spec.restore.as_ref()?;
    let name = NamespacedName::new(spark.namespace(), &restore.checkpoint);
    let checkpoint = world.index.get::<Checkpoint>(&name);
    let volume = checkpoint.and_then(|c| volume::owned(world.index, spark.namespace(), &c.id.uid).next());
    Some(restore_source(restore, checkpoint, volume, &live?.spec.node_name))
}

/// The Volume that was trashed last of those that its annotation means.
fn undelete(spark: &Known<Spark>, world: &World<'_>) -> Option<Known<Volume>> {
    let uid = Uid::new(spark.annotations().get(labels::UNDELETE)?)?;
    let trashed = world.index.related::<Volume>(&Relation::Trash(uid));
    let here = trashed.filter(|volume| volume.namespace() == spark.namespace());
    here.max_by_key(|volume| volume.spec.trashed_at.as_ref().map(|at| at.0)).cloned()
}

/// Its pods, and the one that was claimed for it and is not known with its claim yet.
fn its_pods(spark: &Known<Spark>, world: &World<'_>) -> Vec<Known<Pod>> {
    let uid = &spark.id.uid;
    let known = pods::of_spark(world.index, spark).cloned();
    let free = world.index.related::<Pod>(&Relation::Free(spark.namespace().into()));
    let claimed = free.filter(|pod| world.memory.holder(&pod.id.uid).as_ref() == Some(uid)).cloned();
    known.chain(claimed).collect()
}

/// Free pods that are not reserved for another Spark, oldest first.
fn warm(spark: &Known<Spark>, world: &World<'_>) -> Vec<Known<Pod>> {
    let free = world.index.related::<Pod>(&Relation::Free(spark.namespace().into()));
    let open =
        |pod: &&Known<Pod>| world.memory.holder(&pod.id.uid).is_none_or(|holder| holder == spark.id.uid);
    let mut warm: Vec<_> = free.filter(open).cloned().collect();
    warm.sort_by_cached_key(|pod| {
        (pod.metadata.creation_timestamp.as_ref().map(|at| at.0), pod.id.name.clone())
    });
    warm
}
