//! An object whose papers were looked at: it has a uid, a name and, where its kind has one, a namespace.

use std::{ops::Deref, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use sparks_api::{MissingIdentity, ObjectId};

/// An object and its identity. Cheap to clone.
#[derive(Debug, PartialEq)]
pub struct Known<K> {
    /// Who it is.
    pub id: ObjectId,
    object: Arc<K>,
}

impl<K> Clone for Known<K> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), object: self.object.clone() }
    }
}

impl<K> Known<K> {
    /// What is known of an object with this identity.
    pub fn new(id: ObjectId, object: K) -> Self {
        Self { id, object: Arc::new(object) }
    }

    /// Another version of the same object.
    #[must_use]
    pub fn with(&self, object: K) -> Self {
        Self::new(self.id.clone(), object)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.id.name.namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.id.name.name
    }
}

impl<K: Resource<DynamicType = (), Scope: 'static>> Known<K> {
    /// Looks at the object's papers.
    ///
    /// # Errors
    /// [`MissingIdentity`] when one of them isn't there.
    pub fn of(object: K) -> Result<Self, MissingIdentity> {
        Ok(Self::new(ObjectId::of(&object)?, object))
    }
}

impl<K> Deref for Known<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

/// Says that an object is this one's, and its controller.
#[must_use]
pub fn owned_by<K: Resource<DynamicType = ()>>(owner: &Known<K>) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into(),
        kind: K::kind(&()).into(),
        name: owner.name().into(),
        uid: owner.id.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
