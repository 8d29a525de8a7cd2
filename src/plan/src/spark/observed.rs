//! What the reconciler gathered about one Spark.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use sparks_api::{Spark, Volume, VolumeSource};

use super::{source::Source, ssh::SshFound};
use crate::{placement::Agent, pods::Template, progress::Blocked};

/// What the reconciler gathered about one Spark.
pub struct Observed {
    /// The Spark.
    pub spark: Arc<Spark>,
    /// What it is made from; looked at only while it has no Volume.
    pub source: Result<Source, Blocked>,
    /// The Checkpoint that `spec.restore` names; looked at only while that restore is not done.
    pub restore: Option<Result<VolumeSource, Blocked>>,
    /// Volumes that carry its uid and are not in the trash.
    pub volumes: Vec<Arc<Volume>>,
    /// The trashed Volume that its undelete annotation names.
    pub undelete: Option<Arc<Volume>>,
    /// Pods that carry its uid, also those that end.
    pub pods: Vec<Arc<Pod>>,
    /// Pod that imports its image on the Volume's node.
    pub import_pod: Option<Arc<Pod>>,
    /// The Service by its name, whoever owns it.
    pub service: Option<Arc<Service>>,
    /// Free warm pods of its namespace, oldest first.
    pub warm: Vec<Arc<Pod>>,
    /// Nodes with a running node agent.
    pub agents: Vec<Agent>,
    /// Keys of its SSH server.
    pub ssh: SshFound,
    /// The start that goes on now.
    pub start: Start,
    /// Makes pods.
    pub template: Template,
    /// The clock.
    pub now: Timestamp,
}

/// A start that goes on, as the controller's memory has it; only timings depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Since the controller first saw that the Spark is to run.
    pub age: Duration,
    /// Until pod and Volume were written.
    pub claim: Option<Duration>,
    /// Whether the pod was warm.
    pub warm: bool,
}
