//! What is known about one Checkpoint.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use sparks_api::Checkpoint;
use sparks_plan::checkpoint::Observed;

use crate::context::Context;

pub fn gather(checkpoint: &Arc<Checkpoint>, context: &Context) -> Observed {
    let namespace = checkpoint.namespace().unwrap_or_default();
    let spark = context.hub.spark(&namespace, &checkpoint.spec.spark);
    Observed {
        source: spark.as_ref().and_then(|spark| context.hub.live_volume(spark)),
        spark,
        volume: context
            .hub
            .volumes_of(&namespace, &checkpoint.uid().unwrap_or_default(), false)
            .first()
            .cloned(),
        checkpoint: checkpoint.clone(),
        now: Timestamp::now(),
    }
}
