//! What a plan is made of: writes as data, so that whoever carries them out decides nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use sparks_api::{EnvSource, NamespacedName, ObjectId, Reason, Volume};

use crate::known::Known;

/// Secrets that are put into a Volume's attachment, sealed to the node agent, before it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seal {
    /// Environment to be read from these Secrets and ConfigMaps.
    pub env: Vec<EnvSource>,
    /// Uid of the Spark whose host key is to be sealed.
    pub host_key_of: Option<sparks_api::Uid>,
}

impl Seal {
    /// Whether there is nothing to seal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.env.is_empty() && self.host_key_of.is_none()
    }
}

/// An object to delete, and never another one by the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Doomed {
    /// The object.
    pub id: ObjectId,
    /// Only if nobody wrote it since this version.
    pub version: Option<String>,
    /// Seconds of grace; the object's own when none.
    pub grace_seconds: Option<u32>,
}

/// One write to the API server. Those of one plan don't depend on each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take a warm pod for a Spark with an optimistic write.
    Claim {
        /// The pod as it was read.
        pod: Known<Pod>,
        /// The Spark.
        spark: ObjectId,
        /// Its owner reference to the Spark.
        owner: Box<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
    },
    /// Start a pod.
    CreatePod {
        /// The pod.
        pod: Box<Pod>,
        /// The pool that it is for, and its node.
        pool: Option<(NamespacedName, String)>,
    },
    /// End a pod.
    DeletePod(Doomed),
    /// Give a pod its size, in place.
    ResizePod(Known<Pod>, Box<k8s_openapi::api::core::v1::ResourceRequirements>),
    /// Make a Volume.
    CreateVolume(Box<Volume>, Seal),
    /// Write a Volume as it shall be, unless somebody wrote it since it was read.
    UpdateVolume(Box<Volume>, Seal),
    /// The owner of a Volume is gone: as [`Action::UpdateVolume`], after a look at the API server that it really is.
    Abandon(Box<Volume>),
    /// Delete a Volume.
    DeleteVolume(Doomed),
    /// Make a Service.
    CreateService(Box<Service>),
    /// Give a Service these ports.
    PatchService(NamespacedName, Vec<k8s_openapi::api::core::v1::ServicePort>),
    /// The object's own time has passed.
    Expire,
}

/// An event to record on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether something is wrong.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub note: String,
}

/// When the status is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Write {
    /// After the actions, so that it tells what the API server refused.
    #[default]
    After,
    /// Before them: what is left to do keeps nobody from using the object.
    First,
    /// By a later pass, unless something is refused: a fast start costs no write for its progress.
    Later,
    /// Before the actions, which are done only if nobody wrote the object since it was read.
    IfUnchanged,
}

/// A start that is over with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Whether its pod was warm.
    pub warm: bool,
    /// From the wish until Ready.
    pub took: Duration,
}

/// What to do now, and how the object then is.
#[derive(Clone, Debug)]
pub struct Planned<S> {
    /// The writes.
    pub actions: Vec<Action>,
    /// The whole status; none where the controller writes none.
    pub status: Option<S>,
    /// When the status is written.
    pub write: Write,
    /// Look again after this time even if nothing happens.
    pub again: Option<Duration>,
    /// Events to record once the status is written.
    pub events: Vec<Event>,
    /// The start that this status ends.
    pub started: Option<Started>,
    /// What was not done, and why; for people who ask.
    pub declined: Vec<String>,
}

impl<S> Default for Planned<S> {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            status: None,
            write: Write::After,
            again: None,
            events: Vec::new(),
            started: None,
            declined: Vec::new(),
        }
    }
}
