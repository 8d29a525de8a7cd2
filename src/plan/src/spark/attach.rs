//! The Volume of a Spark, and the claim of its pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sparks_api::{
    AttachedSsh, Attachment, DiskSpec, Inherited, ROOT_DISK, Service, Spark, Volume, VolumeSource,
    VolumeSpec, labels,
};

use super::{inherit::saved_spec, sleep};
use crate::pods;

/// Size of a root disk that says nothing else.
const DEFAULT_DISK: &str = "20Gi";

/// The Volume that holds this Spark's disks.
#[must_use]
pub fn volume_for(
    spark: &Spark,
    name: String,
    node: String,
    source: VolumeSource,
    effective: &Inherited,
) -> Volume {
    let spec = VolumeSpec {
        node_name: node,
        source,
        disks: disks(effective),
        read_only: false,
        attachment: None,
        trashed_at: None,
    };
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: spark.namespace(),
        labels: Some(owner_labels(&Spark::kind(&()), &spark.name_any(), &spark.uid().unwrap_or_default())),
        annotations: saved(spark, effective),
        finalizers: Some(vec![labels::VOLUME_FINALIZER.into()]),
        ..Default::default()
    };
    Volume { metadata, spec, status: None }
}

/// Labels that tie a Volume to its owner; an owner reference would let the garbage collector delete the data.
pub(crate) fn owner_labels(kind: &str, name: &str, uid: &str) -> BTreeMap<String, String> {
    [(labels::OWNER_KIND, kind), (labels::OWNER_NAME, name), (labels::OWNER_UID, uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The annotation from which `spark undelete` makes the Spark again.
pub(super) fn saved(spark: &Spark, effective: &Inherited) -> Option<BTreeMap<String, String>> {
    let spec = serde_json::to_string(&saved_spec(&spark.spec, effective)).ok()?;
    Some([(labels::SAVED_SPEC.to_owned(), spec)].into())
}

/// The disks that this spec asks for, the root first.
pub(super) fn disks(effective: &Inherited) -> Vec<DiskSpec> {
    let size = effective.disk.as_ref().map_or(Quantity(DEFAULT_DISK.into()), |disk| disk.size.clone());
    let root = DiskSpec { name: ROOT_DISK.into(), mount_path: "/".into(), size };
    let more = effective.volumes.iter().flatten().map(|volume| DiskSpec {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        size: volume.size.clone(),
    });
    std::iter::once(root).chain(more).collect()
}

/// What the pod is to become. The sealed environment is the applier's to fill in, because sealing is not pure.
pub(super) fn attachment(
    spark: &Spark,
    pod: &Pod,
    service: Option<&Service>,
    ssh: Option<AttachedSsh>,
) -> Attachment {
    Attachment {
        pod_name: pod.name_any(),
        pod_uid: pod.uid().unwrap_or_default(),
        hostname: spark.name_any(),
        // Who may see the service is the gateway's concern.
        service: service.map(|service| Service { env_from: None, public: false, ..service.clone() }),
        sealed_env: None,
        idle_shown_after_seconds: sleep::shown_after(spark),
        ssh,
    }
}

/// The optimistic write that makes a warm pod this Spark's: it fails when anybody wrote the pod since it was read.
#[must_use]
pub fn claim_patch(spark: &Spark, pod: &Pod) -> Value {
    let mut labels: BTreeMap<String, Value> =
        pods::spark_labels(&spark.name_any(), &spark.uid().unwrap_or_default())
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
    labels.insert(labels::POOL.to_owned(), Value::Null);
    json!({"metadata": {
        "resourceVersion": pod.metadata.resource_version,
        "uid": pod.metadata.uid,
        "labels": labels,
        // Forgets who wrote which field, which nobody asks of a pod: keeping that up is a third of what each write of it
        // costs the API server.
        "managedFields": [{}],
        "ownerReferences": spark.controller_owner_ref(&()).map(|owner| vec![owner]),
    }})
}
