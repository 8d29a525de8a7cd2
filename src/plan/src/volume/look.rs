//! What one pass of a Volume depends on.

use sparks_api::{NamespacedName, Volume};

use super::{Observed, import_pod, owner, waits_for_import};
use crate::{
    index::{Index, Relation},
    known::Known,
    watched::NodeFacts,
    world::World,
};

pub(super) fn look(volume: &Known<Volume>, world: &World<'_>) -> Observed {
    let node = NamespacedName::new("", &volume.spec.node_name);
    Observed {
        owner_exists: owner(volume).is_some_and(|owner| owner.exists(world.index)),
        node_exists: world.index.get::<NodeFacts>(&node).is_some(),
        import_pod: import_pod(volume, world.index).cloned(),
        import_wanted_by_others: import_wanted_by_others(volume, world.index),
        retention: world.settings.retention,
        template: world.settings.template.clone(),
        volume: volume.clone(),
        now: world.now.wall,
    }
}

fn import_wanted_by_others(volume: &Known<Volume>, index: &Index) -> bool {
    let Some(image) = &volume.spec.source.image else { return false };
    let mut others = index
        .related::<Volume>(&Relation::Image(image.key.clone()))
        .filter(|other| other.spec.node_name == volume.spec.node_name && other.id != volume.id);
    others.any(|other| waits_for_import(other))
}
