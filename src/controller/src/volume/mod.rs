//! Volumes that nobody owns any more, and the import of images.

mod apply;
mod gather;

use std::sync::Arc;

use kube::runtime::controller::Action;
use sparks_api::Volume;

use crate::context::Context;

/// One pass.
///
/// # Errors
/// The API server's.
pub async fn reconcile(volume: Arc<Volume>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let seen = gather::gather(&volume, &context);
    let (actions, again) = sparks_plan::volume::plan(&seen);
    for action in &actions {
        apply::apply(&context, &volume, action).await?;
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}
