//! What a plan is made of.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::Value;
use sparks_api::{EnvSource, Reason, SparkStatus, Volume};

/// One write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delete the Spark: its time to live has passed.
    Delete,
    /// Take a warm pod with an optimistic write.
    Claim {
        /// The pod as it was read.
        pod: Arc<Pod>,
        /// Merge patch with the pod's resource version.
        patch: Value,
    },
    /// Start an ordinary pod.
    CreatePod(Box<Pod>),
    /// Make the Volume; `env` is to be resolved, sealed and put into its attachment first.
    CreateVolume(Box<Volume>, Vec<EnvSource>),
    /// Merge-patch a Volume; `env` likewise.
    PatchVolume(Arc<Volume>, Value, Vec<EnvSource>),
    /// Put a Volume that was replaced by a restore into the trash.
    Trash(Arc<Volume>),
    /// Delete a pod, with this many seconds of grace.
    DeletePod(Arc<Pod>, u32),
    /// Resize the pod in place.
    Resize(Arc<Pod>, Value),
    /// Make the Service.
    CreateService(Box<Service>),
    /// Merge-patch the Service.
    PatchService(Value),
}

/// An event to record on the Spark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether something is wrong.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub note: String,
}

/// What to do now, and how the Spark then is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Writes; those of one plan don't depend on each other.
    pub actions: Vec<Action>,
    /// The whole status.
    pub status: SparkStatus,
    /// Whether the status may wait for the next pass, because a fast start goes on.
    pub status_may_wait: bool,
    /// Whether the status may be written only if nobody wrote the Spark since it was read: it is about to fall asleep,
    /// and somebody may just have come.
    pub only_if_unchanged: bool,
    /// Look again after this time even if nothing happens.
    pub requeue: Option<Duration>,
    /// Events to record.
    pub events: Vec<Event>,
}
