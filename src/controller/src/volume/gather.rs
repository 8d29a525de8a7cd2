//! What is known about one Volume.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use sparks_api::{Volume, labels};
use sparks_plan::volume::{Observed, waits_for_import};

use crate::context::Context;

pub fn gather(volume: &Arc<Volume>, context: &Context) -> Observed {
    Observed {
        owner_exists: owner_exists(volume, context),
        node_exists: context.hub.node_exists(&volume.spec.node_name),
        import_pod: context.hub.import_pod(volume),
        import_wanted_by_others: import_wanted_by_others(volume, context),
        retention: context.retention,
        template: context.template.clone(),
        volume: volume.clone(),
        now: Timestamp::now(),
    }
}

fn owner_exists(volume: &Volume, context: &Context) -> bool {
    let label = |key: &str| volume.labels().get(key).cloned().unwrap_or_default();
    let (namespace, name) = (volume.namespace().unwrap_or_default(), label(labels::OWNER_NAME));
    let uid = if label(labels::OWNER_KIND) == "Checkpoint" {
        context.hub.checkpoint(&namespace, &name).and_then(|owner| owner.uid())
    } else {
        context.hub.spark(&namespace, &name).and_then(|owner| owner.uid())
    };
    uid == Some(label(labels::OWNER_UID))
}

fn import_wanted_by_others(volume: &Volume, context: &Context) -> bool {
    let Some(image) = &volume.spec.source.image else { return false };
    let same = |other: &Volume| {
        let theirs = other.spec.source.image.as_ref().is_some_and(|i| i.key == image.key);
        theirs
            && other.spec.node_name == volume.spec.node_name
            && other.uid() != volume.uid()
            && waits_for_import(other)
    };
    context.hub.volumes.find(same).is_some()
}
