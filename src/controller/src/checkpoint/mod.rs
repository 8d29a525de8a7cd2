//! Checkpoints.

mod apply;
mod gather;

use std::sync::Arc;

use kube::{ResourceExt, runtime::controller::Action};
use sparks_api::Checkpoint;

use crate::context::Context;

/// One pass.
///
/// # Errors
/// The API server's.
pub async fn reconcile(checkpoint: Arc<Checkpoint>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if checkpoint.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let seen = gather::gather(&checkpoint, &context);
    let plan = sparks_plan::checkpoint::plan(&seen);
    if let Some(action) = &plan.action {
        apply::apply(&context, &checkpoint, action).await?;
    }
    let api = context.api(&checkpoint.namespace().unwrap_or_default());
    context
        .write_status::<Checkpoint, _>(&api, &checkpoint.name_any(), checkpoint.status.as_ref(), &plan.status)
        .await?;
    Ok(plan.requeue.map_or_else(Action::await_change, Action::requeue))
}
