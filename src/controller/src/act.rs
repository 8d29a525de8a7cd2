//! Carries out what was planned, all at once: the writes of one plan don't depend on each other.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::discovery::ApiResource;
use sparks_api::{NamespacedName, ObjectId, Reason, Volume};
use sparks_plan::{
    action::{Action, Doomed, Event},
    kind::Kind,
    known::Known,
    progress::Blocked,
    volume,
};

use crate::{
    api::{Answer, ApiError, Target, blocked, or_exists, or_gone},
    context::Context,
    seal::{SealError, sealed},
};

/// How the writes of a plan ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All are written.
    Done,
    /// Another Spark got the pod.
    LostRace,
    /// Somebody wrote the object since it was read; what was written is on its way here, and starts the next pass.
    Stale,
    /// Somebody has to act.
    Refused(Blocked),
    /// The API server failed.
    Failed(ApiError),
}

impl Outcome {
    /// The worse of two.
    fn and(self, other: Self) -> Self {
        let rank = |outcome: &Self| match outcome {
            Self::Done => 0,
            Self::Stale => 1,
            Self::LostRace => 2,
            Self::Refused(_) => 3,
            Self::Failed(_) => 4,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }

    /// The obstacle, if somebody has to act.
    pub fn refusal(&self) -> Option<&Blocked> {
        match self {
            Self::Refused(blocked) => Some(blocked),
            _ => None,
        }
    }
}

impl From<Answer<()>> for Outcome {
    fn from(answer: Answer<()>) -> Self {
        match answer {
            Ok(()) => Self::Done,
            Err(ApiError::Conflict) => Self::Stale,
            Err(ApiError::Refused(words)) => Self::Refused(blocked(&words)),
            Err(error) => Self::Failed(error),
        }
    }
}

impl From<SealError> for Outcome {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Blocked(blocked) => Self::Refused(blocked),
            SealError::Api(error) => Self::Failed(error),
        }
    }
}

/// Carries out all of them.
pub async fn all<K: Kind>(context: &Context, this: &Known<K>, actions: &[Action]) -> Outcome {
    let outcomes = join_all(actions.iter().map(|action| one(context, this, action))).await;
    let outcome = outcomes.into_iter().fold(Outcome::Done, Outcome::and);
    if outcome == Outcome::Done && !actions.is_empty() {
        context.look(|world| K::done(this, actions, world));
    }
    outcome
}

async fn one<K: Kind>(context: &Context, this: &Known<K>, action: &Action) -> Outcome {
    let api = &context.api;
    match action {
        Action::Claim { pod, spark, owner } => claim(context, pod, spark, owner).await,
        Action::CreatePod { pod, pool } => create_pod(context, this.namespace(), pod, pool.as_ref()).await,
        Action::DeletePod(doomed) => delete::<Pod>(context, doomed).await,
        Action::ResizePod(pod, size) => or_gone(api.resize_pod(&pod.id.name, size).await).into(),
        Action::CreateVolume(volume, seal) => match sealed(context, volume, seal).await {
            Ok(volume) => or_exists(api.create_volume(&volume).await).into(),
            Err(error) => error.into(),
        },
        Action::UpdateVolume(volume, seal) => match sealed(context, volume, seal).await {
            Ok(volume) => or_gone(api.replace_volume(&volume).await).into(),
            Err(error) => error.into(),
        },
        Action::Abandon(volume) => abandon(context, volume).await,
        Action::DeleteVolume(doomed) => delete::<Volume>(context, doomed).await,
        Action::CreateService(service) => create_service(context, service).await,
        Action::PatchService(name, ports) => or_gone(api.set_ports(name, ports).await).into(),
        Action::Expire => expire(context, this).await,
    }
}

async fn claim(
    context: &Context,
    pod: &Known<Pod>,
    spark: &ObjectId,
    owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> Outcome {
    let now = context.clock.now();
    if !context.memory.reserve(&pod.id.uid, &spark.uid, now) {
        return Outcome::LostRace;
    }
    context.memory.note_claim(&spark.name.namespace, now);
    let answer = context.api.claim(pod, spark, owner).await;
    if answer.is_err() {
        context.memory.release(&pod.id.uid);
    }
    match answer {
        Err(ApiError::Conflict | ApiError::Gone) => {
            context.metrics.lost_races.inc();
            Outcome::LostRace
        }
        answer => answer.into(),
    }
}

async fn create_pod(
    context: &Context,
    namespace: &str,
    pod: &Pod,
    pool: Option<&(NamespacedName, String)>,
) -> Outcome {
    let created = context.api.create_pod(namespace, pod).await;
    if let (Ok(name), Some((pool, node))) = (&created, pool) {
        let (pod, now) = (NamespacedName::new(namespace, name), context.clock.now());
        context.memory.created(pod, pool.clone(), node.clone(), now);
    }
    or_exists(created.map(drop)).into()
}

async fn delete<K: kube::Resource<DynamicType = ()>>(context: &Context, doomed: &Doomed) -> Outcome {
    let resource = ApiResource::erase::<K>(&());
    match or_gone(context.api.delete(&resource, doomed).await) {
        // Another object by now, or another version of it: not the one that was meant.
        Err(ApiError::Conflict) => Outcome::Done,
        answer => answer.into(),
    }
}

async fn create_service(context: &Context, service: &Service) -> Outcome {
    let (Some(namespace), name) = (service.namespace(), service.name_any()) else { return Outcome::Done };
    let name = NamespacedName::new(&namespace, &name);
    if !context.memory.make_service(&name, context.clock.now()) {
        return Outcome::Done;
    }
    let created = context.api.create_service(service).await;
    if created.is_err() {
        context.memory.forget_service(&name);
    }
    or_exists(created).into()
}

/// What is known may be old: only the API server knows that the owner is gone.
async fn abandon(context: &Context, volume: &Volume) -> Outcome {
    let Ok(known) = Known::of(volume.clone()) else { return Outcome::Done };
    let Some(owner) = volume::owner(&known) else { return Outcome::Done };
    let resource = owner.resource();
    match context.api.uid_now(&resource, &owner.reference.name).await {
        Ok(uid) if uid.as_ref() == Some(&owner.uid) => Outcome::Done,
        Ok(_) => {
            tracing::info!(owner = %owner.reference, "the owner is gone; its disks go into the trash");
            or_gone(context.api.replace_volume(volume).await).into()
        }
        Err(error) => Err(error).into(),
    }
}

async fn expire<K: Kind>(context: &Context, this: &Known<K>) -> Outcome {
    let target = Target::of(this);
    let note = "its time to live has passed; its disks go into the trash".to_owned();
    context.api.record(&target, Event { warning: false, reason: Reason::Expired, note });
    let doomed = Doomed { id: this.id.clone(), version: None, grace_seconds: None };
    delete::<K>(context, &doomed).await
}
