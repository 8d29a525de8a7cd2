//! What the controller found out about one Spark.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use sparks_api::{Spark, Volume, VolumeSource};

use super::{source::Source, ssh::SshFound};
use crate::{known::Known, placement::Agent, pods::Template, progress::Blocked};

/// What the controller found out about one Spark.
pub struct Observed {
    /// The Spark.
    pub spark: Known<Spark>,
    /// What it is made from; looked at only while it has no Volume.
    pub source: Result<Source, Blocked>,
    /// The Checkpoint that `spec.restore` names; looked at only while that restore is not done.
    pub restore: Option<Result<VolumeSource, Blocked>>,
    /// Volumes that carry its uid and are not in the trash.
    pub volumes: Vec<Known<Volume>>,
    /// The one of them that is its own now.
    pub live: Option<Known<Volume>>,
    /// The trashed Volume that its undelete annotation names.
    pub undelete: Option<Known<Volume>>,
    /// Pods that carry its uid, also those that end.
    pub pods: Vec<Known<Pod>>,
    /// Pod that imports its image on the Volume's node.
    pub import_pod: Option<Known<Pod>>,
    /// Why that pod could not be made.
    pub import_refused: Option<Blocked>,
    /// The Service by its name, whoever owns it.
    pub service: Option<Known<Service>>,
    /// Free warm pods of its namespace, oldest first.
    pub warm: Vec<Known<Pod>>,
    /// Nodes with a running node agent.
    pub agents: Vec<Agent>,
    /// Keys of its SSH server.
    pub ssh: SshFound,
    /// The start that goes on now.
    pub start: Start,
    /// Makes pods.
    pub template: Template,
    /// How long trash is kept.
    pub retention: Duration,
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
