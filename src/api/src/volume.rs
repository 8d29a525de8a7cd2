//! `Volume`: the disks of one Spark or Checkpoint on one node; the mailbox between controller and node agent.

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spark::Service;

/// VolumeSpec is written by the controller only.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparks.loop.work",
    version = "v1alpha1",
    kind = "Volume",
    plural = "volumes",
    namespaced,
    status = "VolumeStatus",
    derive = "PartialEq",
    category = "sparks-internal",
    selectable = ".spec.nodeName",
    doc = "Volume is internal: the disks (btrfs subvolumes) of one Spark or Checkpoint on one node, and the pod that they are to be attached to. The controller writes the spec, the node agent of that node the status.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(
        name = "Owner",
        type_ = "string",
        json_path = ".metadata.labels.sparks\\.loop\\.work/owner-name"
    ),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.attachment.podName"),
    printcolumn(name = "Trashed", type_ = "date", json_path = ".spec.trashedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.nodeName == oldSelf.nodeName && self.source == oldSelf.source && self.readOnly == oldSelf.readOnly").message("nodeName, source and readOnly can't be changed"))]
#[serde(rename_all = "camelCase")]
pub struct VolumeSpec {
    /// Node whose pool holds the disks.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    /// Where the content comes from.
    #[serde(default)]
    pub source: VolumeSource,
    /// The disks; a disk that the source doesn't have starts empty.
    #[schemars(length(min = 1, max = 17))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub disks: Vec<DiskSpec>,
    /// Whether the disks are read-only, as a Checkpoint's.
    #[serde(default)]
    pub read_only: bool,
    /// The pod to attach the disks to; none for a stopped Spark or a Checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// When the owner was deleted; the disks stay in the trash until the retention has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trashed_at: Option<Time>,
}

/// VolumeSource is where the content of the disks comes from: nothing, an image, or another Volume on the same node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(has(self.image) && has(self.volume))").message("at most one of image and volume can be set"))]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// OCI image for the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Volume whose disks of the same names are snapshotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeReference>,
}

/// ImageSource is an OCI image as one namespace may pull it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// Image reference.
    pub reference: String,
    /// Key of the imported image in the node's pool.
    pub key: String,
}

/// VolumeReference names a Volume by its unchangeable identity.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeReference {
    /// Namespace of the Volume.
    pub namespace: String,
    /// Name of the Volume.
    pub name: String,
    /// Uid of the Volume.
    pub uid: String,
}

/// DiskSpec is one disk.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskSpec {
    /// Name of the disk; root is the root filesystem.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Where it is mounted in the Spark.
    #[schemars(length(min = 1, max = 255))]
    pub mount_path: String,
    /// Most bytes that it may hold of its own.
    #[schemars(schema_with = "crate::schema::quantity")]
    pub size: Quantity,
}

/// Attachment is the pod to attach to, and what it is to become.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the pod, in the Volume's namespace.
    pub pod_name: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Host name, which is the name of the Spark.
    pub hostname: String,
    /// The service, without envFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What envFrom resolved to: JSON list of [name, value], sealed to the node agent's public key, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_env: Option<String>,
    /// Whole seconds of idleness after which the status shows it; the node agent's own default when empty. For Sparks that shall sleep sooner than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub idle_shown_after_seconds: Option<i32>,
    /// What the guest's SSH server needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<crate::AttachedSsh>,
}

/// VolumeStatus is written by the node agent only.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::unseen()))]
pub struct VolumeStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Ready, Attached or Failed.
    #[serde(default)]
    pub phase: VolumePhase,
    /// What each disk holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub disks: Vec<DiskUsage>,
    /// When the disks were made, which is the moment that a snapshot shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// The pod that the disks are attached to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
    /// How long each step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<VolumeTimings>,
    /// Provisioned: the disks exist. Attached: they are the pod's root. Resized: the disks have their sizes. Reconciling, Stalled: see kstatus; they carry the class of what stands in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Phase of a Volume.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumePhase {
    /// The disks are not there yet.
    #[default]
    Pending,
    /// The disks are there and not attached.
    Ready,
    /// The disks are attached to a pod.
    Attached,
    /// The disks can't be made or attached; the conditions say why.
    Failed,
}

/// DiskUsage is what one disk holds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskUsage {
    /// Name of the disk.
    pub name: String,
    /// Bytes that the disk refers to: what it had at its birth, and its own.
    pub referenced_bytes: i64,
    /// Bytes of its own, not shared with the image or the source.
    pub exclusive_bytes: i64,
    /// Most bytes of its own that it may hold.
    pub limit_bytes: i64,
}

/// Attached is the pod that the disks are attached to, and what its guest says.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// Name of the pod.
    pub pod_name: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Container whose root the disks are.
    pub container_id: String,
    /// Whether the service is ready; true as well without a service.
    #[serde(default)]
    pub service_ready: bool,
    /// How often the service was restarted since the attach.
    #[serde(default)]
    pub service_restarts: i32,
    /// What is wrong with the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_message: Option<String>,
    /// Since when nothing but the service has run and no terminal has been open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
}

/// VolumeTimings is how long each step took, in microseconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTimings {
    /// Making the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_micros: Option<i64>,
    /// Attaching them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_micros: Option<i64>,
    /// From the attach until the service was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_micros: Option<i64>,
}
