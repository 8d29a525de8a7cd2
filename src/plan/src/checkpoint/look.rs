//! What one pass of a Checkpoint depends on.

use sparks_api::{Checkpoint, NamespacedName, Spark};

use super::Observed;
use crate::{known::Known, volume, world::World};

pub(super) fn look(checkpoint: &Known<Checkpoint>, world: &World<'_>) -> Observed {
    let name = NamespacedName::new(checkpoint.namespace(), &checkpoint.spec.spark);
    let spark = world.index.get::<Spark>(&name);
    Observed {
        source: spark.and_then(|spark| volume::live_of(spark, world.index)),
        spark: spark.cloned(),
        volume: volume::owned(world.index, checkpoint.namespace(), &checkpoint.id.uid).next().cloned(),
        checkpoint: checkpoint.clone(),
        now: world.now.wall,
    }
}
