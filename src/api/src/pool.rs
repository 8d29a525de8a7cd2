//! `SparkPool`: warm pods that wait for Sparks.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::spark::Resources;

/// SparkPoolSpec says how many warm pods wait, and of which size.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparks.loop.work",
    version = "v1alpha1",
    kind = "SparkPool",
    namespaced,
    status = "SparkPoolStatus",
    derive = "PartialEq",
    category = "sparks-all",
    doc = "SparkPool keeps pods warm, so that a Spark in its namespace starts, forks and wakes in milliseconds instead of the second that a pod needs. Without a free warm pod a Spark gets an ordinary one.",
    printcolumn(
        name = "Size",
        type_ = "integer",
        json_path = ".spec.size",
        description = "Warm pods wanted on each node"
    ),
    printcolumn(
        name = "Warm",
        type_ = "integer",
        json_path = ".status.warm",
        description = "Warm pods that can be taken now"
    ),
    printcolumn(name = "Starting", type_ = "integer", json_path = ".status.starting"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[kube(validation = Rule::new("self.metadata.name.size() <= 50").message("the name of a SparkPool may have at most 50 characters"))]
#[serde(rename_all = "camelCase")]
pub struct SparkPoolSpec {
    /// Warm pods to keep on each node that runs the node agent and matches nodeSelector. A fork starts where its source's blocks are, which is why this counts per node.
    #[schemars(range(min = 0, max = 200))]
    pub size: i32,
    /// Size of a warm pod while it waits; the Spark's own resources are set by an in-place resize when it is taken. Default: requests of 5m CPU and 16Mi memory, limits of 2 CPU and 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels of the nodes on which warm pods wait; all nodes when empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
}

/// SparkPoolStatus is what the controller observed last.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::unseen()))]
pub struct SparkPoolStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Warm pods that can be taken now.
    #[serde(default)]
    pub warm: i32,
    /// Warm pods that are starting.
    #[serde(default)]
    pub starting: i32,
    /// Ready: all wanted pods are warm. Reconciling, Stalled: see kstatus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
