//! Sparks.

mod apply;
mod gather;

use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};
use sparks_api::{Spark, SparkStatus};
use sparks_plan::progress::Progress;

use crate::{api_error, context::Context, metrics::StartKind};

/// One pass.
///
/// # Errors
/// The API server's.
pub async fn reconcile(spark: Arc<Spark>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if spark.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let mut seen = gather::gather(&spark, &context);
    seen.ssh = crate::ssh::found(&context, &seen).await?;
    let mut plan = sparks_plan::spark::plan(&seen);
    if plan.status.is_up() {
        context.memory.ready(&spark.uid().unwrap_or_default());
    }
    if plan.only_if_unchanged {
        return fall_asleep(&context, &spark, &plan).await;
    }
    if plan.status.is_up() {
        // What is left to write keeps nobody from using it.
        write_status(&context, &spark, &plan).await?;
        plan.status_may_wait = true;
    }
    let applied = apply::apply(&context, &spark, &plan.actions).await;
    if let Err(apply::ApplyError::Blocked(blocked)) = &applied {
        Progress::Blocked(blocked.clone()).write(
            &mut plan.status.conditions,
            spark.metadata.generation,
            Timestamp::now(),
        );
        plan.status_may_wait = false;
    }
    if !plan.status_may_wait {
        write_status(&context, &spark, &plan).await?;
    }
    match applied {
        Ok(()) => Ok(plan.requeue.map_or_else(Action::await_change, Action::requeue)),
        Err(apply::ApplyError::LostRace) => Ok(Action::requeue(std::time::Duration::ZERO)),
        Err(apply::ApplyError::Blocked(_)) => {
            Ok(Action::requeue(context.memory.backoff(&spark.uid().unwrap_or_default())))
        }
        Err(apply::ApplyError::Api(error)) => Err(error),
    }
}

/// Writes that it sleeps, unless somebody came meanwhile. The pass that this write brings about ends its pod.
async fn fall_asleep(
    context: &Arc<Context>,
    spark: &Arc<Spark>,
    plan: &sparks_plan::spark::Plan,
) -> Result<Action, kube::Error> {
    match write_status(context, spark, plan).await {
        // Whoever wrote brings about another pass as well.
        Err(error) if !api_error::conflict(&error) => Err(error),
        _ => Ok(Action::await_change()),
    }
}

async fn write_status(
    context: &Arc<Context>,
    spark: &Arc<Spark>,
    plan: &sparks_plan::spark::Plan,
) -> Result<(), kube::Error> {
    let api = context.api::<Spark>(&spark.namespace().unwrap_or_default());
    let version = spark.resource_version().filter(|_| plan.only_if_unchanged);
    let written =
        context.write_status_of(&api, &spark.name_any(), version, spark.status.as_ref(), &plan.status).await;
    api_error::ignore_not_found(written)?;
    for event in &plan.events {
        context.record(&**spark, event.warning, &event.reason, event.note.clone());
    }
    if plan.status.is_up() && !spark.status.as_ref().is_some_and(SparkStatus::is_up) {
        let timings = plan.status.timings.clone().unwrap_or_default();
        let pod = if timings.warm { "warm" } else { "cold" };
        #[allow(clippy::cast_precision_loss)]
        let seconds = timings.total_micros.unwrap_or_default() as f64 / 1e6;
        context.metrics.start.get_or_create(&StartKind { pod }).observe(seconds);
    }
    Ok(())
}
