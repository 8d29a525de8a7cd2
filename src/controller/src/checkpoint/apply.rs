//! Writes what the plan wants.

use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use sparks_api::{Checkpoint, Volume};
use sparks_plan::checkpoint::Action;

use crate::{
    api_error::{ignore_exists, ignore_not_found},
    context::Context,
};

pub async fn apply(context: &Context, checkpoint: &Checkpoint, action: &Action) -> Result<(), kube::Error> {
    let namespace = checkpoint.namespace().unwrap_or_default();
    match action {
        Action::Delete => {
            let preconditions = Some(Preconditions { uid: checkpoint.uid(), resource_version: None });
            let exactly = DeleteParams { preconditions, ..Default::default() };
            ignore_not_found(
                context.api::<Checkpoint>(&namespace).delete(&checkpoint.name_any(), &exactly).await,
            )
        }
        Action::CreateVolume(volume) => {
            ignore_exists(context.api::<Volume>(&namespace).create(&PostParams::default(), volume).await)
        }
    }
}
