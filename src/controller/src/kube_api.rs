//! The real API server.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{ConfigMap, ObjectReference, Pod, ResourceRequirements, Secret, Service, ServicePort},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
    discovery::ApiResource,
    runtime::events::{Event as KubeEvent, EventType, Recorder},
};
use serde_json::{Value, json};
use sparks_api::{NamespacedName, ObjectId, Uid, Volume, labels};
use sparks_plan::{
    action::{Doomed, Event},
    known::Known,
    pods,
};

use crate::api::{Answer, Api, ApiError, StatusBody, Target};

/// Field manager of everything that the controller writes.
pub const MANAGER: &str = "sparks-controller";

/// The real API server.
pub struct KubeApi {
    client: Client,
    recorder: Recorder,
}

impl KubeApi {
    /// By way of this client; events are told in the recorder's name.
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    fn of<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        kube::Api::namespaced(self.client.clone(), namespace)
    }

    fn dynamic(&self, resource: &ApiResource, namespace: &str) -> kube::Api<DynamicObject> {
        kube::Api::namespaced_with(self.client.clone(), namespace, resource)
    }
}

/// Parameters of every patch.
pub fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() }
}

/// Parameters of every other write.
pub fn write() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..Default::default() }
}

fn done<T>(result: Result<T, kube::Error>) -> Answer<()> {
    result.map(drop).map_err(ApiError::from)
}

/// Makes a warm pod a Spark's, if nobody wrote it meanwhile.
fn claim_patch(pod: &Known<Pod>, spark: &ObjectId, owner: &OwnerReference) -> Value {
    let labels = pods::labels_of(
        labels::ROLE_SPARK,
        &[(labels::SPARK, &*spark.name.name), (labels::SPARK_UID, spark.uid.as_str())],
    );
    let mut labels: BTreeMap<String, Value> = labels.into_iter().map(|(k, v)| (k, v.into())).collect();
    labels.insert(labels::POOL.to_owned(), Value::Null);
    json!({"metadata": {
        "resourceVersion": pod.metadata.resource_version,
        "uid": pod.metadata.uid,
        "labels": labels,
        // Forgets who wrote which field, which nobody asks of a pod: keeping that up is a third of what each write of it
        // costs the API server.
        "managedFields": [{}],
        "ownerReferences": [owner],
    }})
}

impl Api for KubeApi {
    fn create_pod<'a>(&'a self, namespace: &'a str, pod: &'a Pod) -> BoxFuture<'a, Answer<String>> {
        Box::pin(async move { Ok(self.of::<Pod>(namespace).create(&write(), pod).await?.name_any()) })
    }

    fn claim<'a>(
        &'a self,
        pod: &'a Known<Pod>,
        spark: &'a ObjectId,
        owner: &'a OwnerReference,
    ) -> BoxFuture<'a, Answer<()>> {
        let patch = Patch::Merge(claim_patch(pod, spark, owner));
        Box::pin(async move {
            done(self.of::<Pod>(pod.namespace()).patch_metadata(pod.name(), &params(), &patch).await)
        })
    }

    fn resize_pod<'a>(
        &'a self,
        pod: &'a NamespacedName,
        size: &'a ResourceRequirements,
    ) -> BoxFuture<'a, Answer<()>> {
        let patch = json!({"spec": {"containers": [{"name": pods::CONTAINER, "resources": size}]}});
        Box::pin(async move {
            let pods = self.of::<Pod>(&pod.namespace);
            done(pods.patch_subresource("resize", &pod.name, &params(), &Patch::Strategic(patch)).await)
        })
    }

    fn create_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move { done(self.of::<Volume>(namespace(volume)?).create(&write(), volume).await) })
    }

    fn replace_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let volumes = self.of::<Volume>(namespace(volume)?);
            done(volumes.replace(&volume.name_any(), &write(), volume).await)
        })
    }

    fn create_service<'a>(&'a self, service: &'a Service) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move { done(self.of::<Service>(namespace(service)?).create(&write(), service).await) })
    }

    fn set_ports<'a>(
        &'a self,
        service: &'a NamespacedName,
        ports: &'a [ServicePort],
    ) -> BoxFuture<'a, Answer<()>> {
        let patch = Patch::Merge(json!({"spec": {"ports": ports}}));
        Box::pin(async move {
            done(self.of::<Service>(&service.namespace).patch(&service.name, &params(), &patch).await)
        })
    }

    fn delete<'a>(&'a self, resource: &'a ApiResource, doomed: &'a Doomed) -> BoxFuture<'a, Answer<()>> {
        let name = &doomed.id.name;
        let exactly =
            Preconditions { uid: Some(doomed.id.uid.to_string()), resource_version: doomed.version.clone() };
        let parameters = DeleteParams {
            grace_period_seconds: doomed.grace_seconds,
            preconditions: Some(exactly),
            ..Default::default()
        };
        Box::pin(async move {
            done(self.dynamic(resource, &name.namespace).delete(&name.name, &parameters).await)
        })
    }

    /// A PUT costs the API server two thirds of a PATCH, which it must read, merge and check first.
    fn put_status<'a>(&'a self, target: &'a Target, status: &'a dyn StatusBody) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let (name, resource) = (&target.id.name, &target.resource);
            let status = status.json().map_err(|error| ApiError::Failed(error.to_string()))?;
            let mut object = DynamicObject::new(&name.name, resource).within(&name.namespace);
            object.metadata.uid = Some(target.id.uid.to_string());
            object.metadata.resource_version.clone_from(&target.version);
            object.data = json!({"status": status});
            let api = self.dynamic(resource, &name.namespace);
            done(api.replace_status(&name.name, &write(), &object).await)
        })
    }

    fn uid_now<'a>(
        &'a self,
        resource: &'a ApiResource,
        name: &'a NamespacedName,
    ) -> BoxFuture<'a, Answer<Option<Uid>>> {
        Box::pin(async move {
            let found = self.dynamic(resource, &name.namespace).get_metadata_opt(&name.name).await?;
            Ok(found.and_then(|found| Uid::new(&found.uid()?)))
        })
    }

    fn secret<'a>(&'a self, name: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, Vec<u8>>>> {
        Box::pin(async move {
            let secret = self.of::<Secret>(&name.namespace).get(&name.name).await?;
            Ok(secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect())
        })
    }

    fn config_map<'a>(&'a self, name: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, String>>> {
        Box::pin(async move {
            let map = self.of::<ConfigMap>(&name.namespace).get(&name.name).await?;
            Ok(map.data.into_iter().flatten().collect())
        })
    }

    fn record(&self, target: &Target, event: Event) {
        let (recorder, reference) = (self.recorder.clone(), reference(target));
        tokio::spawn(async move {
            let event = KubeEvent {
                type_: if event.warning { EventType::Warning } else { EventType::Normal },
                reason: event.reason.to_string(),
                note: Some(event.note.chars().take(1024).collect()),
                action: event.reason.to_string(),
                secondary: None,
            };
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::warn!(%error, "an event could not be recorded");
            }
        });
    }
}

fn reference(target: &Target) -> ObjectReference {
    ObjectReference {
        api_version: Some(target.resource.api_version.clone()),
        kind: Some(target.resource.kind.clone()),
        namespace: Some(target.id.name.namespace.to_string()),
        name: Some(target.id.name.name.to_string()),
        uid: Some(target.id.uid.to_string()),
        ..Default::default()
    }
}

/// What was planned has a namespace.
fn namespace(object: &impl Resource) -> Answer<&str> {
    let namespace = object.meta().namespace.as_deref();
    namespace.ok_or_else(|| ApiError::Failed("an object without a namespace can't be written".into()))
}
