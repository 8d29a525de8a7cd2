//! Writes what the plan wants, all at once: the writes of one plan don't depend on each other.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    ResourceExt,
    api::{Api, DeleteParams, Patch, PostParams, Preconditions},
};
use serde_json::Value;
use sparks_api::{EnvSource, Spark, Volume};
use sparks_plan::{progress::Blocked, spark::Action};

use crate::{
    api_error::{conflict, ignore_exists, ignore_not_found, not_found, refused},
    context::{Context, params},
    env::{self, EnvError},
};

/// Why a plan was not carried out whole.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another write took the warm pod.
    #[error("another write took the pod")]
    LostRace,
    /// Somebody has to act.
    #[error("{}", .0.message)]
    Blocked(Blocked),
    /// The API server failed.
    #[error(transparent)]
    Api(kube::Error),
}

impl From<kube::Error> for ApplyError {
    fn from(error: kube::Error) -> Self {
        refused(&error).map_or(Self::Api(error), Self::Blocked)
    }
}

impl From<EnvError> for ApplyError {
    fn from(error: EnvError) -> Self {
        match error {
            EnvError::Blocked(blocked) => Self::Blocked(blocked),
            EnvError::Api(error) => error.into(),
        }
    }
}

pub async fn apply(context: &Arc<Context>, spark: &Arc<Spark>, actions: &[Action]) -> Result<(), ApplyError> {
    let uid = spark.uid().unwrap_or_default();
    let results = join_all(actions.iter().map(|action| one(context, spark, action))).await;
    let warm = actions.iter().any(|action| matches!(action, Action::Claim { .. }));
    let cold = actions.iter().any(|action| matches!(action, Action::CreatePod(_)));
    if (warm || cold) && results.iter().all(Result::is_ok) {
        context.memory.claimed(&uid, warm);
    }
    results.into_iter().collect()
}

async fn one(context: &Arc<Context>, spark: &Arc<Spark>, action: &Action) -> Result<(), ApplyError> {
    let namespace = spark.namespace().unwrap_or_default();
    let pods = context.api::<Pod>(&namespace);
    let services = context.api::<Service>(&namespace);
    match action {
        Action::Delete => {
            let note = "its time to live has passed; its disks go into the trash".to_owned();
            context.record(&**spark, false, &sparks_api::Reason::Expired, note);
            Ok(ignore_not_found(
                context.api::<Spark>(&namespace).delete(&spark.name_any(), &exactly(spark.uid())).await,
            )?)
        }
        Action::Claim { pod, patch } => claim(context, spark, pod, patch).await,
        Action::CreatePod(pod) => Ok(ignore_exists(pods.create(&PostParams::default(), pod).await)?),
        Action::CreateVolume(volume, sources) => create_volume(context, spark, volume, sources).await,
        Action::PatchVolume(volume, patch, sources) => {
            patch_volume(context, spark, volume, patch, sources).await
        }
        Action::Trash(volume) => trash(context, volume).await,
        Action::DeletePod(pod, grace) => {
            let parameters = DeleteParams { grace_period_seconds: Some(*grace), ..exactly(pod.uid()) };
            Ok(ignore_not_found(pods.delete(&pod.name_any(), &parameters).await)?)
        }
        Action::Resize(pod, patch) => {
            let resized =
                pods.patch_subresource("resize", &pod.name_any(), &params(), &Patch::Strategic(patch)).await;
            Ok(ignore_not_found(resized)?)
        }
        Action::CreateService(service) => create_service(context, &services, service).await,
        Action::PatchService(patch) => {
            Ok(ignore_not_found(services.patch(&spark.name_any(), &params(), &Patch::Merge(patch)).await)?)
        }
    }
}

async fn claim(context: &Context, spark: &Spark, pod: &Pod, patch: &Value) -> Result<(), ApplyError> {
    let (pod_uid, namespace) = (pod.uid().unwrap_or_default(), spark.namespace().unwrap_or_default());
    if !context.memory.reserve(&pod_uid, &spark.uid().unwrap_or_default()) {
        return Err(ApplyError::LostRace);
    }
    context.memory.note_claim(&namespace);
    match context
        .api::<Pod>(&namespace)
        .patch_metadata(&pod.name_any(), &params(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => {
            context.memory.release(&pod_uid);
            if conflict(&error) || not_found(&error) {
                context.metrics.lost_races.inc();
                return Err(ApplyError::LostRace);
            }
            Err(error.into())
        }
    }
}

async fn create_service(context: &Context, api: &Api<Service>, service: &Service) -> Result<(), ApplyError> {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    if !context.memory.make_service(&namespace, &name) {
        return Ok(());
    }
    let created = api.create(&PostParams::default(), service).await;
    if created.is_err() {
        context.memory.forget_service(&namespace, &name);
    }
    Ok(ignore_exists(created)?)
}

async fn create_volume(
    context: &Context,
    spark: &Spark,
    volume: &Volume,
    sources: &[EnvSource],
) -> Result<(), ApplyError> {
    let namespace = volume.namespace().unwrap_or_default();
    let sealed = env::sealed(context, &namespace, sources, &volume.spec.node_name).await?;
    let mut volume = volume.clone();
    if let Some(attachment) = &mut volume.spec.attachment {
        attachment.sealed_env = sealed;
        if let Some(ssh) = &mut attachment.ssh
            && ssh.sealed_to.is_some()
        {
            ssh.sealed_host_key = Some(sealed_host_key(context, spark, &volume.spec.node_name)?);
        }
    }
    Ok(ignore_exists(context.api::<Volume>(&namespace).create(&PostParams::default(), &volume).await)?)
}

/// The seed of its host key, for the agent of the node alone.
fn sealed_host_key(context: &Context, spark: &Spark, node: &str) -> Result<String, ApplyError> {
    let seed = context.installation.keys().host_seed(&spark.uid().unwrap_or_default());
    env::seal(&context.hub.agents(), node, &seed).map_err(ApplyError::Blocked)
}

async fn patch_volume(
    context: &Context,
    spark: &Spark,
    volume: &Volume,
    patch: &Value,
    sources: &[EnvSource],
) -> Result<(), ApplyError> {
    let namespace = volume.namespace().unwrap_or_default();
    let mut patch = patch.clone();
    if let Some(sealed) = env::sealed(context, &namespace, sources, &volume.spec.node_name).await? {
        patch["spec"]["attachment"]["sealedEnv"] = sealed.into();
    }
    // It is in the patch when, and only when, one of the two keys is new.
    if patch["spec"]["attachment"]["ssh"]["sealedTo"].is_string() {
        let sealed = sealed_host_key(context, spark, &volume.spec.node_name)?;
        patch["spec"]["attachment"]["ssh"]["sealedHostKey"] = sealed.into();
    }
    let written =
        context.api::<Volume>(&namespace).patch(&volume.name_any(), &params(), &Patch::Merge(&patch)).await;
    Ok(ignore_not_found(written)?)
}

async fn trash(context: &Context, volume: &Volume) -> Result<(), ApplyError> {
    let now = jiff::Timestamp::now();
    let deadline = now.saturating_add(context.retention).unwrap_or(jiff::Timestamp::MAX);
    let patch = sparks_plan::volume::trash_patch(now, deadline);
    let api = context.api::<Volume>(&volume.namespace().unwrap_or_default());
    Ok(ignore_not_found(api.patch(&volume.name_any(), &params(), &Patch::Merge(&patch)).await)?)
}

/// Deletes this object and never another one by the same name.
fn exactly(uid: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..Default::default() }
}
