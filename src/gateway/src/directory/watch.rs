//! The watch that keeps the directory.

use futures::StreamExt;
use kube::{
    Api, Client,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use sparks_api::{Spark, SparkSpec};

use super::Directory;

/// Watches all Sparks forever.
pub async fn watch(client: Client, directory: Directory) {
    let api = Api::<DeserializeGuard<Spark>>::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if let Some(event) = readable(event) {
                    directory.observe(event);
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of Sparks failed; it is tried again"),
        }
    }
}

/// Drops an object that can't be read, so that one bad object doesn't blind the gateway.
fn readable(event: Event<DeserializeGuard<Spark>>) -> Option<Event<Spark>> {
    Some(match event {
        Event::Apply(guard) => Event::Apply(read(guard)?),
        Event::Delete(guard) => Event::Delete(read(guard)?),
        Event::InitApply(guard) => Event::InitApply(read(guard)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

fn read(guard: DeserializeGuard<Spark>) -> Option<Spark> {
    match guard.0 {
        Ok(mut spark) => {
            slim(&mut spark);
            Some(spark)
        }
        Err(error) => {
            let name = error.metadata.name.unwrap_or_default();
            tracing::warn!(name, error = %error.error, "a Spark can't be read and is left alone");
            None
        }
    }
}

/// Drops what nobody here reads.
fn slim(spark: &mut Spark) {
    spark.metadata.managed_fields = None;
    spark.metadata.annotations = None;
    spark.metadata.labels = None;
    spark.metadata.owner_references = None;
    let lifecycle = std::mem::take(&mut spark.spec.lifecycle);
    spark.spec = SparkSpec { lifecycle, ..Default::default() };
    if let Some(status) = &mut spark.status {
        status.inherited = None;
        status.disks = Vec::new();
        status.timings = None;
    }
}
