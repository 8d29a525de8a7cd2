//! SparkPools.

mod apply;
mod gather;

use std::sync::Arc;

use kube::{ResourceExt, runtime::controller::Action};
use sparks_api::SparkPool;

use crate::context::Context;

/// One pass.
///
/// # Errors
/// The API server's.
pub async fn reconcile(pool: Arc<SparkPool>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if pool.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let seen = gather::gather(&pool, &context);
    let plan = sparks_plan::pool::plan(&seen);
    let applied = apply::apply(&context, &pool, &plan).await;
    if plan.status_may_wait && applied.is_ok() {
        return Ok(plan.requeue.map_or_else(Action::await_change, Action::requeue));
    }
    let api = context.api(&pool.namespace().unwrap_or_default());
    let status = apply::status(&plan, &applied, &pool);
    context.write_status::<SparkPool, _>(&api, &pool.name_any(), pool.status.as_ref(), &status).await?;
    applied?;
    Ok(plan.requeue.map_or_else(Action::await_change, Action::requeue))
}
