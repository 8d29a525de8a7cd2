//! The kinds that this library handles, and what they have in common.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as StatusCondition;
use kube::Resource;
use kube::api::{DeleteParams, ListParams};
use serde::de::DeserializeOwned;
use sparks_api::{Checkpoint, Spark, SparkPool, Volume};

use crate::error::Subject;
use crate::{Error, Result, Sparks};

/// A kind of Sparks, with conditions in its status.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// What messages call it.
    const NOUN: &'static str;
    /// The conditions.
    fn conditions(&self) -> &[StatusCondition];
    /// The generation that the status describes.
    fn observed_generation(&self) -> Option<i64>;
}

macro_rules! kind {
    ($kind:ty, $noun:literal) => {
        impl Kind for $kind {
            const NOUN: &'static str = $noun;
            fn conditions(&self) -> &[StatusCondition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn observed_generation(&self) -> Option<i64> {
                self.status.as_ref().and_then(|status| status.observed_generation)
            }
        }
    };
}

kind!(Spark, "spark");
kind!(Checkpoint, "checkpoint");
kind!(SparkPool, "pool");
kind!(Volume, "volume");

impl Sparks {
    pub(crate) fn subject<K: Kind>(&self, name: &str) -> Subject {
        Subject { kind: K::NOUN, name: name.into(), namespace: self.namespace.clone() }
    }

    /// One object.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and whatever the API server refuses.
    pub async fn get_object<K: Kind>(&self, name: &str) -> Result<K> {
        self.api::<K>().get(name).await.map_err(|error| self.subject::<K>(name).error(error))
    }

    /// The objects of this namespace that a label selector matches; all when it is empty.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn list_objects<K: Kind>(&self, selector: &str) -> Result<Vec<K>> {
        let list = self.api::<K>().list(&ListParams::default().labels(selector)).await;
        Ok(list.map_err(|error| self.subject::<K>("").error(error))?.items)
    }

    /// What an error of the Kubernetes client means, in a request about an object of this name.
    #[must_use]
    pub fn error<K: Kind>(&self, name: &str, error: kube::Error) -> Error {
        self.subject::<K>(name).error(error)
    }

    /// Deletes one object; it may still be there when this returns.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and whatever the API server refuses.
    pub async fn delete_object<K: Kind>(&self, name: &str) -> Result<()> {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        deleted.map(drop).map_err(|error| self.subject::<K>(name).error(error))
    }

    /// One Spark.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and whatever the API server refuses.
    pub async fn get(&self, name: &str) -> Result<Spark> {
        self.get_object(name).await
    }

    /// The Sparks of this namespace that a label selector matches; all when it is empty.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn list(&self, selector: &str) -> Result<Vec<Spark>> {
        self.list_objects(selector).await
    }

    /// The Sparks of all namespaces that a label selector matches.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn list_all(&self, selector: &str) -> Result<Vec<Spark>> {
        let api = kube::Api::<Spark>::all(self.client.clone());
        let list = api.list(&ListParams::default().labels(selector)).await;
        Ok(list.map_err(|error| self.error::<Spark>("", error))?.items)
    }

    /// Deletes a Spark; its disks go into the trash, from which [`Sparks::undelete`] takes them.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and whatever the API server refuses.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.delete_object::<Spark>(name).await
    }
}
