//! The API server as a controller meets it: each call waits for its turn, so that anything can happen between two writes.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context as TaskContext, Poll},
};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements, Service, ServicePort},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::discovery::ApiResource;
use sparks_api::{
    Checkpoint, CheckpointStatus, NamespacedName, ObjectId, Spark, SparkPool, SparkPoolStatus, SparkStatus,
    Uid, Volume, labels,
};
use sparks_controller::api::{Answer, Api, ApiError, StatusBody, Target};
use sparks_plan::{
    action::{Doomed, Event},
    known::Known,
    pods,
};

use crate::{
    fault::Fault,
    server::{Key, Kind, Object, Refusal, Server, State},
};

/// What stands in every Secret, and nowhere else.
pub const SECRET: &str = "hunter2";

/// One controller's way to the server.
pub struct Turns {
    /// The server.
    pub server: Server,
    /// Who writes.
    pub who: usize,
    /// Calls that may be carried out now.
    pub turns: AtomicUsize,
}

struct Turn<'a>(&'a AtomicUsize);

impl Future for Turn<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turns| turns.checked_sub(1));
        if taken.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl From<Refusal> for Wrapped {
    fn from(refusal: Refusal) -> Self {
        Self(match refusal {
            Refusal::Gone => ApiError::Gone,
            Refusal::Exists => ApiError::Exists,
            Refusal::Conflict => ApiError::Conflict,
            Refusal::Forbidden(words) => ApiError::Refused(words),
        })
    }
}

struct Wrapped(ApiError);

fn answer<T>(result: Result<T, Refusal>) -> Answer<T> {
    result.map_err(|refusal| Wrapped::from(refusal).0)
}

/// The key of a namespaced object.
pub fn key(kind: Kind, name: &NamespacedName) -> Key {
    (kind, name.namespace.to_string(), name.name.to_string())
}

fn kind(resource: &ApiResource) -> Kind {
    match resource.kind.as_str() {
        "Spark" => Kind::Spark,
        "Checkpoint" => Kind::Checkpoint,
        "SparkPool" => Kind::Pool,
        "Volume" => Kind::Volume,
        "Pod" => Kind::Pod,
        _ => Kind::Service,
    }
}

impl Turns {
    fn call<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut State) -> Answer<T> + Send + 'a,
    ) -> BoxFuture<'a, Answer<T>> {
        Box::pin(async move {
            Turn(&self.turns).await;
            act(&mut self.server.state())
        })
    }

    fn is(&self, fault: Fault) -> bool {
        self.server.state().fault == Some(fault)
    }
}

fn give(pod: &mut Pod, spark: &ObjectId, owner: &OwnerReference) {
    let labels = pods::labels_of(
        labels::ROLE_SPARK,
        &[(labels::SPARK, &*spark.name.name), (labels::SPARK_UID, spark.uid.as_str())],
    );
    pod.metadata.labels = Some(labels);
    pod.metadata.owner_references = Some(vec![owner.clone()]);
}

impl Api for Turns {
    fn create_pod<'a>(&'a self, namespace: &'a str, pod: &'a Pod) -> BoxFuture<'a, Answer<String>> {
        self.call(move |state| {
            if state.fault == Some(Fault::PodsAreNotMade) {
                return Ok("nothing".into());
            }
            let mut pod = pod.clone();
            pod.metadata.namespace = Some(namespace.into());
            answer(state.create(self.who, Object::Pod(Box::new(pod))))
        })
    }

    fn claim<'a>(
        &'a self,
        pod: &'a Known<Pod>,
        spark: &'a ObjectId,
        owner: &'a OwnerReference,
    ) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            let read = pod.metadata.resource_version.as_deref();
            let version = read.filter(|_| state.fault != Some(Fault::ClaimsTakeTakenPods));
            answer(state.update(self.who, "claim", &key(Kind::Pod, &pod.id.name), version, |object| {
                if let Object::Pod(pod) = object {
                    give(pod, spark, owner);
                }
            }))
        })
    }

    fn resize_pod<'a>(
        &'a self,
        pod: &'a NamespacedName,
        size: &'a ResourceRequirements,
    ) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            if state.fault == Some(Fault::SizesAreNotSet) {
                return Ok(());
            }
            answer(state.update(self.who, "resize", &key(Kind::Pod, pod), None, |object| {
                let Object::Pod(pod) = object else { return };
                let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
                containers.for_each(|container| container.resources = Some(size.clone()));
            }))
        })
    }

    fn create_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            let mut volume = volume.clone();
            if state.fault == Some(Fault::SecretsStandInClear)
                && let Some(attachment) = &mut volume.spec.attachment
                && attachment.sealed_env.is_some()
            {
                attachment.sealed_env = Some(SECRET.into());
            }
            answer(state.create(self.who, Object::Volume(Box::new(volume))).map(drop))
        })
    }

    fn replace_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            let trashed = volume.spec.trashed_at.is_some();
            match state.fault {
                Some(Fault::VolumesAreNotUpdated) if !trashed => return Ok(()),
                Some(Fault::AbandonedDisksAreKept) if trashed => return Ok(()),
                _ => {}
            }
            let version = volume.metadata.resource_version.as_deref();
            let key = Object::Volume(Box::new(volume.clone())).key();
            answer(state.update(self.who, "update", &key, version, |object| {
                let Object::Volume(stored) = object else { return };
                let status = stored.status.clone();
                let generation =
                    stored.metadata.generation.map(|g| g + i64::from(stored.spec != volume.spec));
                let deleted = stored.metadata.deletion_timestamp.clone();
                **stored = volume.clone();
                stored.status = status;
                (stored.metadata.generation, stored.metadata.deletion_timestamp) = (generation, deleted);
            }))
        })
    }

    fn create_service<'a>(&'a self, service: &'a Service) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            if state.fault == Some(Fault::ServicesAreNotMade) {
                return Ok(());
            }
            answer(state.create(self.who, Object::Service(Box::new(service.clone()))).map(drop))
        })
    }

    fn set_ports<'a>(
        &'a self,
        service: &'a NamespacedName,
        ports: &'a [ServicePort],
    ) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            answer(state.update(self.who, "ports", &key(Kind::Service, service), None, |object| {
                if let Object::Service(service) = object
                    && let Some(spec) = &mut service.spec
                {
                    spec.ports = Some(ports.to_vec());
                }
            }))
        })
    }

    fn delete<'a>(&'a self, resource: &'a ApiResource, doomed: &'a Doomed) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            let kind = kind(resource);
            match state.fault {
                Some(Fault::LostPodsAreNotEnded) if kind == Kind::Pod => return Ok(()),
                Some(Fault::ExpiredSparksStay) if kind == Kind::Spark => return Ok(()),
                _ => {}
            }
            let (key, version) = (key(kind, &doomed.id.name), doomed.version.as_deref());
            answer(state.delete(self.who, &key, Some(doomed.id.uid.as_str()), version))
        })
    }

    fn put_status<'a>(&'a self, target: &'a Target, status: &'a dyn StatusBody) -> BoxFuture<'a, Answer<()>> {
        self.call(move |state| {
            if state.fault == Some(Fault::StatusIsNotTold) {
                return Ok(());
            }
            let version = target.version.as_deref();
            let version = version.filter(|_| state.fault != Some(Fault::StatusOverwritesWhatOthersWrote));
            let key = key(kind(&target.resource), &target.id.name);
            answer(state.update(self.who, "status", &key, version, |object| set_status(object, status)))
        })
    }

    fn uid_now<'a>(
        &'a self,
        resource: &'a ApiResource,
        name: &'a NamespacedName,
    ) -> BoxFuture<'a, Answer<Option<Uid>>> {
        self.call(move |state| {
            if state.fault == Some(Fault::TrashIsTakenWithoutLook) {
                return Ok(None);
            }
            let found = state.get(&key(kind(resource), name)).and_then(|object| object.meta().uid.clone());
            Ok(found.and_then(|uid| Uid::new(&uid)))
        })
    }

    fn secret<'a>(&'a self, _: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, Vec<u8>>>> {
        self.call(|_| Ok([("TOKEN".to_owned(), SECRET.as_bytes().to_vec())].into()))
    }

    fn config_map<'a>(&'a self, _: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, String>>> {
        self.call(|_| Err(ApiError::Gone))
    }

    fn record(&self, _: &Target, event: Event) {
        assert!(
            !event.note.contains(SECRET) || self.is(Fault::SecretsStandInClear),
            "an event tells a secret"
        );
    }
}

fn set_status(object: &mut Object, status: &dyn StatusBody) {
    match object {
        Object::Spark(it) => {
            let it: &mut Spark = it;
            it.status = status.any().downcast_ref::<SparkStatus>().cloned();
        }
        Object::Checkpoint(it) => {
            let it: &mut Checkpoint = it;
            it.status = status.any().downcast_ref::<CheckpointStatus>().cloned();
        }
        Object::Pool(it) => {
            let it: &mut SparkPool = it;
            it.status = status.any().downcast_ref::<SparkPoolStatus>().cloned();
        }
        _ => {}
    }
}
