//! `Checkpoint`: a named read-only snapshot of a Spark.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spark::{ForkPolicy, Inherited, LocalReference};

/// CheckpointSpec names the Spark whose disks are snapshotted.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparks.loop.work",
    version = "v1alpha1",
    kind = "Checkpoint",
    namespaced,
    status = "CheckpointStatus",
    derive = "PartialEq",
    category = "sparks-all",
    doc = "Checkpoint is a read-only snapshot of all disks of a Spark at the moment when the Checkpoint was created. Sparks can be forked from it (spec.from.checkpoint) and restored to it (spec.restore).",
    printcolumn(name = "Spark", type_ = "string", json_path = ".spec.spark"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.takenAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[kube(validation = Rule::new("self.metadata.name.size() <= 50").message("the name of a Checkpoint may have at most 50 characters"))]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// Name of the Spark, in the same namespace. Can't be changed.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spark can't be changed: create another Checkpoint"))]
    pub spark: String,
    /// Time after which the Checkpoint is deleted, counted from its creation, such as 72h; never when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_duration")]
    pub ttl: Option<String>,
    /// Who else may fork from this Checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_policy: Option<ForkPolicy>,
}

/// CheckpointStatus is what the controller observed last.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::unseen()))]
pub struct CheckpointStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Ready or Failed.
    #[serde(default)]
    pub phase: CheckpointPhase,
    /// When the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
    /// When the Checkpoint will be deleted, if it has a ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Node that holds the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Volume that holds the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<LocalReference>,
    /// What a fork of this Checkpoint takes over from the Spark as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inherited: Option<Inherited>,
    /// Ready: the snapshot is complete. Reconciling, Stalled: see kstatus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Phase of a Checkpoint.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointPhase {
    /// The snapshot is not there yet.
    #[default]
    Pending,
    /// The snapshot is complete.
    Ready,
    /// The snapshot can't be made; the Ready condition says why.
    Failed,
}
