//! The API server as the controller uses it: few calls, each of which means one thing. Behind this waist stands the real
//! one, or one in memory that plays thousands of histories.

use std::{any::Any, collections::BTreeMap};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements, Service, ServicePort},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::discovery::ApiResource;
use serde_json::Value;
use sparks_api::{NamespacedName, ObjectId, Reason, Uid, Volume};
use sparks_plan::{
    action::{Doomed, Event},
    kind::{Kind, Status},
    known::Known,
    progress::Blocked,
};

/// What an answer of the API server means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such object (any more).
    #[error("there is no such object")]
    Gone,
    /// An object of this name exists already.
    #[error("an object of this name exists already")]
    Exists,
    /// Somebody wrote the object since it was read.
    #[error("somebody else wrote the object")]
    Conflict,
    /// A refusal that only the user or the administrator can change: a quota, a policy, an admission webhook.
    #[error("{0}")]
    Refused(String),
    /// It failed, and may work next time.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else { return Self::Failed(error.to_string()) };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::Gone,
            (409, "AlreadyExists") => Self::Exists,
            (409, _) => Self::Conflict,
            (400 | 403 | 413 | 422, _) => Self::Refused(status.message.clone()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// An answer of the API server.
pub type Answer<T> = Result<T, ApiError>;

/// A status of any kind on its way.
pub trait StatusBody: Send + Sync {
    /// As JSON.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    fn json(&self) -> Result<Value, serde_json::Error>;
    /// As it is.
    fn any(&self) -> &dyn Any;
}

impl<S: Status + 'static> StatusBody for S {
    fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// One object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its kind, as the API server has it.
    pub resource: ApiResource,
    /// Who it is.
    pub id: ObjectId,
    /// The version in which it was read.
    pub version: Option<String>,
}

impl Target {
    /// This object.
    pub fn of<K: Kind>(this: &Known<K>) -> Self {
        let version = this.meta().resource_version.clone();
        Self { resource: ApiResource::erase::<K>(&()), id: this.id.clone(), version }
    }
}

/// The API server as the controller uses it.
pub trait Api: Send + Sync {
    /// Starts a pod; answers its name.
    fn create_pod<'a>(&'a self, namespace: &'a str, pod: &'a Pod) -> BoxFuture<'a, Answer<String>>;
    /// Gives a free pod to a Spark, unless anybody wrote it since it was read.
    fn claim<'a>(
        &'a self,
        pod: &'a Known<Pod>,
        spark: &'a ObjectId,
        owner: &'a OwnerReference,
    ) -> BoxFuture<'a, Answer<()>>;
    /// Gives a pod its size, in place.
    fn resize_pod<'a>(
        &'a self,
        pod: &'a NamespacedName,
        size: &'a ResourceRequirements,
    ) -> BoxFuture<'a, Answer<()>>;
    /// Makes a Volume.
    fn create_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>>;
    /// Replaces a Volume, unless anybody wrote it since it was read.
    fn replace_volume<'a>(&'a self, volume: &'a Volume) -> BoxFuture<'a, Answer<()>>;
    /// Makes a Service.
    fn create_service<'a>(&'a self, service: &'a Service) -> BoxFuture<'a, Answer<()>>;
    /// Gives a Service other ports.
    fn set_ports<'a>(
        &'a self,
        service: &'a NamespacedName,
        ports: &'a [ServicePort],
    ) -> BoxFuture<'a, Answer<()>>;
    /// Deletes this object and never another one of the same name.
    fn delete<'a>(&'a self, resource: &'a ApiResource, doomed: &'a Doomed) -> BoxFuture<'a, Answer<()>>;
    /// Replaces the status, unless anybody wrote the object since it was read.
    fn put_status<'a>(&'a self, target: &'a Target, status: &'a dyn StatusBody) -> BoxFuture<'a, Answer<()>>;
    /// The uid of the object of this name now, whatever the caches say.
    fn uid_now<'a>(
        &'a self,
        resource: &'a ApiResource,
        name: &'a NamespacedName,
    ) -> BoxFuture<'a, Answer<Option<Uid>>>;
    /// What is in a Secret.
    fn secret<'a>(&'a self, name: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, Vec<u8>>>>;
    /// What is in a ConfigMap.
    fn config_map<'a>(&'a self, name: &'a NamespacedName) -> BoxFuture<'a, Answer<BTreeMap<String, String>>>;
    /// Records an event. Nobody waits for it.
    fn record(&self, target: &Target, event: Event);
}

/// What a refusal means for the object whose write was refused. Names that the API server made up are left out, because
/// a status that is another one each time would start the next pass itself.
#[must_use]
pub fn blocked(message: &str) -> Blocked {
    let words = message.split_once(" is forbidden: ").map_or(message, |(_, words)| words);
    Blocked::new(Reason::ApiRefused, words)
}

/// `Ok` when the object is gone already.
///
/// # Errors
/// All others.
pub fn or_gone(answer: Answer<()>) -> Answer<()> {
    if answer == Err(ApiError::Gone) { Ok(()) } else { answer }
}

/// `Ok` when the object is there already.
///
/// # Errors
/// All others.
pub fn or_exists(answer: Answer<()>) -> Answer<()> {
    if answer == Err(ApiError::Exists) { Ok(()) } else { answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_has_the_same_words_whatever_name_was_made_up() {
        let refusal = |name: &str| {
            blocked(&format!(
                "pods \"{name}\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4"
            ))
        };
        assert_eq!(refusal("warm-abcde"), refusal("warm-fghij"));
        assert!(refusal("warm-abcde").message.contains("exceeded quota: q"));
    }
}
