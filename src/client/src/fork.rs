//! Making Sparks and Checkpoints, and putting a Spark back.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use sparks_api::{Checkpoint, CheckpointSpec, ForkSource, Lifecycle, Resources, Spark, SparkPool, SparkSpec};

use crate::objects::Kind;
use crate::{Error, FIELD_MANAGER, Result, Sparks};

/// Longest name of a Spark or Checkpoint, and what the API server appends to a generated one.
const MAX_NAME: usize = 50;
const GENERATED_SUFFIX: usize = 5;

/// Name of a new object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Exactly this one.
    Exact(String),
    /// `prefix-` and five characters that the API server chooses.
    Generated {
        /// What it begins with.
        prefix: String,
    },
}

impl Name {
    /// A name that begins with `prefix`.
    #[must_use]
    pub fn generated(prefix: impl Into<String>) -> Self {
        Self::Generated { prefix: prefix.into() }
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::Exact(name.into())
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self::Exact(name)
    }
}

impl From<&String> for Name {
    fn from(name: &String) -> Self {
        Self::Exact(name.clone())
    }
}

/// What `metadata.generateName` is for a prefix: short enough that the result is a valid name.
pub(crate) fn generate_name(prefix: &str) -> String {
    let room = MAX_NAME - GENERATED_SUFFIX - 1;
    let end = prefix.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
    format!("{}-", prefix[..end.unwrap_or(0)].trim_end_matches('-'))
}

/// What to fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whether `name` is a Checkpoint's, and not a Spark's.
    pub checkpoint: bool,
    /// Name of the Spark or Checkpoint.
    pub name: String,
    /// Its namespace, if it is another one; its `forkPolicy` must allow it.
    pub namespace: Option<String>,
}

impl Source {
    /// A Spark of the same namespace, as it is now.
    #[must_use]
    pub fn spark(name: impl Into<String>) -> Self {
        Self { checkpoint: false, name: name.into(), namespace: None }
    }

    /// A Checkpoint of the same namespace.
    #[must_use]
    pub fn checkpoint(name: impl Into<String>) -> Self {
        Self { checkpoint: true, name: name.into(), namespace: None }
    }

    /// In another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The spec of a fork: whatever it doesn't say is the source's.
    #[must_use]
    pub fn to_spec(&self) -> SparkSpec {
        let name = Some(self.name.clone());
        let (spark, checkpoint) = if self.checkpoint { (None, name) } else { (name, None) };
        let from = ForkSource { spark, checkpoint, namespace: self.namespace.clone() };
        SparkSpec { from: Some(from), ..Default::default() }
    }
}

impl From<&str> for Source {
    fn from(name: &str) -> Self {
        Self::spark(name)
    }
}

impl Sparks {
    /// Makes a Spark; it is not ready yet when this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Invalid`] and whatever the API server refuses.
    pub async fn create(&self, name: impl Into<Name>, spec: SparkSpec) -> Result<Spark> {
        let metadata = self.metadata(name.into());
        self.create_object(Spark { metadata, spec, status: None }).await
    }

    /// Makes a Spark from an OCI image, with the defaults for everything else.
    ///
    /// # Errors
    /// As [`Sparks::create`].
    pub async fn create_from_image(&self, name: impl Into<Name>, image: impl Into<String>) -> Result<Spark> {
        self.create(name, SparkSpec { image: Some(image.into()), ..Default::default() }).await
    }

    /// Forks a Spark or a Checkpoint. A source that doesn't exist is found later, by [`Sparks::wait`].
    ///
    /// # Errors
    /// As [`Sparks::create`].
    pub async fn fork(&self, source: impl Into<Source>, name: impl Into<Name>) -> Result<Spark> {
        self.create(name, source.into().to_spec()).await
    }

    /// As [`Sparks::fork`]; the fork is deleted after `ttl`, such as `72h`.
    ///
    /// # Errors
    /// As [`Sparks::create`].
    pub async fn fork_for(
        &self,
        source: impl Into<Source>,
        name: impl Into<Name>,
        ttl: Option<String>,
    ) -> Result<Spark> {
        let lifecycle = Lifecycle { ttl, ..Default::default() };
        self.create(name, SparkSpec { lifecycle, ..source.into().to_spec() }).await
    }

    /// Takes a Checkpoint of a Spark.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the Spark, and as [`Sparks::create`].
    pub async fn checkpoint(
        &self,
        spark: &str,
        name: impl Into<Name>,
        ttl: Option<String>,
    ) -> Result<Checkpoint> {
        self.get(spark).await?;
        let metadata = self.metadata(name.into());
        let spec = CheckpointSpec { spark: spark.into(), ttl, fork_policy: None };
        self.create_object(Checkpoint { metadata, spec, status: None }).await
    }

    /// Puts all disks of a Spark back to a Checkpoint, in place. [`Sparks::wait`] tells when it is done.
    ///
    /// # Errors
    /// [`Error::NotFound`] for either, and whatever the API server refuses.
    pub async fn restore(&self, spark: &str, checkpoint: &str) -> Result<Spark> {
        self.get_object::<Checkpoint>(checkpoint).await?;
        // Nanoseconds make the id fresh, and a person reads from it when it was.
        let id = Timestamp::now().to_string();
        self.patch(spark, json!({"spec": {"restore": {"checkpoint": checkpoint, "id": id}}})).await
    }

    /// Lets a Spark run; wakes it if it sleeps.
    ///
    /// # Errors
    /// [`Error::NotFound`] and whatever the API server refuses.
    pub async fn start(&self, spark: &str) -> Result<Spark> {
        let metadata = woken(&self.get(spark).await?);
        self.patch(spark, json!({"metadata": metadata, "spec": {"lifecycle": {"running": true}}})).await
    }

    /// Wakes a Spark that sleeps; does nothing to one that is stopped.
    ///
    /// # Errors
    /// [`Error::NotFound`] and whatever the API server refuses.
    pub async fn wake(&self, spark: &str) -> Result<Spark> {
        let metadata = woken(&self.get(spark).await?);
        self.patch(spark, json!({"metadata": metadata})).await
    }

    /// Stops a Spark; it keeps its disks.
    ///
    /// # Errors
    /// [`Error::NotFound`] and whatever the API server refuses.
    pub async fn stop(&self, spark: &str) -> Result<Spark> {
        self.patch(spark, json!({"spec": {"lifecycle": {"running": false}}})).await
    }

    /// Makes or changes a pool of warm pods.
    ///
    /// # Errors
    /// [`Error::Invalid`] and whatever the API server refuses.
    pub async fn set_pool(&self, name: &str, size: i32, resources: Option<Resources>) -> Result<SparkPool> {
        let mut spec = json!({"size": size});
        if let Some(resources) = resources {
            spec["resources"] = json!(resources);
        }
        let pool = json!({
            "apiVersion": "sparks.loop.work/v1alpha1",
            "kind": "SparkPool",
            "metadata": {"name": name},
            "spec": spec,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.api::<SparkPool>().patch(name, &params, &Patch::Apply(&pool)).await;
        applied.map_err(|error| self.subject::<SparkPool>(name).error(error))
    }

    async fn patch(&self, name: &str, patch: serde_json::Value) -> Result<Spark> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let patched = self.api::<Spark>().patch(name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(|error| self.subject::<Spark>(name).error(error))
    }

    pub(crate) async fn create_object<K: Kind + serde::Serialize>(&self, object: K) -> Result<K> {
        let name = object.meta().name.clone().or(object.meta().generate_name.clone()).unwrap_or_default();
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        self.api::<K>()
            .create(&params, &object)
            .await
            .map_err(|error| -> Error { self.subject::<K>(&name).error(error) })
    }
}

/// The annotation that wakes a Spark, also where the clock here is behind the controller's.
fn woken(spark: &Spark) -> serde_json::Value {
    let slept = spark.status.as_ref().and_then(|status| status.sleeping_since.as_ref()).map(|since| since.0);
    let at = slept.into_iter().fold(jiff::Timestamp::now(), Ord::max);
    json!({"annotations": {sparks_api::labels::WAKE: at.to_string()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_never_gets_longer_than_a_spark_may_be_called() {
        assert_eq!(generate_name("api"), "api-");
        assert_eq!(generate_name("api-"), "api-");
        let long = generate_name(&"a".repeat(60));
        assert_eq!(long.len() + GENERATED_SUFFIX, MAX_NAME);
    }

    #[test]
    fn a_fork_names_one_source_and_says_nothing_else() {
        let spec = Source::checkpoint("v1").in_namespace("prod").to_spec();
        let from = ForkSource { checkpoint: Some("v1".into()), namespace: Some("prod".into()), spark: None };
        assert_eq!(spec, SparkSpec { from: Some(from), ..Default::default() });
    }
}
