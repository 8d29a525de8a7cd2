//! Who an object is. Papers are looked at once, where an object comes in; behind that these types can't be empty.

use std::{any::TypeId, fmt, ops::Deref, sync::Arc};

use kube::{Resource, core::NamespaceResourceScope};

/// A uid: unique over time and space, and never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Arc<str>);

impl Uid {
    /// The uid, unless the text is empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Uid {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// The object of this name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// Name and uid: one object, and never another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Its name.
    pub name: NamespacedName,
    /// Its uid.
    pub uid: Uid,
}

/// An object came without what identifies it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object of kind {kind} came without its {missing}")]
pub struct MissingIdentity {
    /// Its kind.
    pub kind: String,
    /// What is missing.
    pub missing: &'static str,
}

impl ObjectId {
    /// Looks at an object's papers.
    ///
    /// # Errors
    /// [`MissingIdentity`] when its name, its uid or, where its kind has one, its namespace isn't there.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Result<Self, MissingIdentity>
    where
        K::Scope: 'static,
    {
        let missing = |missing| MissingIdentity { kind: K::kind(&()).into(), missing };
        let meta = object.meta();
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
        let namespace = match filled(&meta.namespace) {
            None if namespaced => return Err(missing("namespace")),
            namespace => namespace.unwrap_or_else(String::new),
        };
        let name = filled(&meta.name).ok_or_else(|| missing("name"))?;
        let uid = meta.uid.as_deref().and_then(Uid::new).ok_or_else(|| missing("uid"))?;
        Ok(Self { name: NamespacedName::new(&namespace, &name), uid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spark, SparkSpec};

    #[test]
    fn an_object_without_uid_name_or_namespace_is_refused_at_the_door() {
        let mut spark = Spark::new("api", SparkSpec::default());
        let missing = |spark: &Spark| ObjectId::of(spark).map_err(|error| error.missing);
        assert_eq!(missing(&spark), Err("namespace"));
        spark.metadata.namespace = Some("team".into());
        assert_eq!(missing(&spark), Err("uid"));
        spark.metadata.uid = Some(String::new());
        assert_eq!(missing(&spark), Err("uid"), "an empty text is no uid");
        spark.metadata.uid = Some("u".into());
        assert_eq!(missing(&spark).map(|id| id.name.to_string()), Ok("team/api".into()));
    }

    #[test]
    fn a_cluster_scoped_object_needs_no_namespace() {
        let mut node = k8s_openapi::api::core::v1::Node::default();
        (node.metadata.name, node.metadata.uid) = (Some("n".into()), Some("u".into()));
        assert_eq!(ObjectId::of(&node).map(|id| id.name.to_string()), Ok("n".into()));
    }
}
