//! The Volume of a Spark, and the claim of its pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::Resource;
use sparks_api::{
    AttachedSsh, Attachment, DiskSpec, Inherited, ROOT_DISK, Service, Spark, Volume, VolumeSource,
    VolumeSpec, labels,
};

use super::{inherit::saved_spec, sleep};
use crate::known::Known;

/// Size of a root disk that says nothing else.
const DEFAULT_DISK: &str = "20Gi";

/// The Volume that holds this Spark's disks.
#[must_use]
pub fn volume_for(
    spark: &Known<Spark>,
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
        namespace: Some(spark.namespace().into()),
        labels: Some(owner_labels(spark)),
        annotations: Some(saved(spark, effective).into_iter().collect()),
        finalizers: Some(vec![labels::VOLUME_FINALIZER.into()]),
        ..Default::default()
    };
    Volume { metadata, spec, status: None }
}

/// Labels that tie a Volume to its owner; an owner reference would let the garbage collector delete the data.
pub(crate) fn owner_labels<K: Resource<DynamicType = ()>>(owner: &Known<K>) -> BTreeMap<String, String> {
    let kind = K::kind(&());
    [
        (labels::OWNER_KIND, &*kind),
        (labels::OWNER_NAME, owner.name()),
        (labels::OWNER_UID, owner.id.uid.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The annotation from which `spark undelete` makes the Spark again.
pub(super) fn saved(spark: &Spark, effective: &Inherited) -> Option<(String, String)> {
    let spec = serde_json::to_string(&saved_spec(&spark.spec, effective)).ok()?;
    Some((labels::SAVED_SPEC.to_owned(), spec))
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
    spark: &Known<Spark>,
    pod: &Known<Pod>,
    service: Option<&Service>,
    ssh: Option<AttachedSsh>,
) -> Attachment {
    Attachment {
        pod_name: pod.name().into(),
        pod_uid: pod.id.uid.to_string(),
        hostname: spark.name().into(),
        // Who may see the service is the gateway's concern.
        service: service.map(|service| Service { env_from: None, public: false, ..service.clone() }),
        sealed_env: None,
        idle_shown_after_seconds: sleep::shown_after(spark),
        ssh,
    }
}
