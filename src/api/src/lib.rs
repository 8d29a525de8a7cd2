//! The kinds of Sparks (group `sparks.loop.work`): types, validation, conditions and their reasons.
//!
//! Field docs are what `kubectl explain` shows. Validation that needs only the object itself is CEL in the schema;
//! what crosses objects is checked by the reconcilers and lands in a condition.

#![allow(clippy::duplicated_attributes, reason = "clippy takes two printcolumns of the same type for one")]

pub mod checkpoint;
pub mod conditions;
pub mod identity;
pub mod labels;
pub mod pool;
pub mod reason;
pub mod schema;
pub mod spark;
pub mod ssh;
pub mod time;
pub mod volume;

pub use checkpoint::{Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus};
pub use identity::{MissingIdentity, NamespacedName, ObjectId, Uid};
pub use pool::{SparkPool, SparkPoolSpec, SparkPoolStatus};
pub use reason::{Class, Reason};
pub use spark::{
    Disk, EnvSource, EnvVar, ForkPolicy, ForkSource, Inherited, Lifecycle, LocalReference, Resources,
    Restore, Restored, Service, Spark, SparkPhase, SparkSpec, SparkStatus, SparkTimings, VolumeMount,
};
pub use ssh::{AttachedSsh, KeyReference, KeySource, Recording, RecordingsStatus, SSH_PORT, Ssh, SshStatus};
pub use volume::{
    Attached, Attachment, DiskSpec, DiskUsage, ImageSource, Volume, VolumePhase, VolumeReference,
    VolumeSource, VolumeSpec, VolumeStatus, VolumeTimings,
};

/// The API group.
pub const GROUP: &str = "sparks.loop.work";

/// Name of the root disk in a [`Volume`], mounted at `/`.
pub const ROOT_DISK: &str = "root";

/// All custom resource definitions, in the order in which they are documented.
#[must_use]
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt;
    vec![Spark::crd(), Checkpoint::crd(), SparkPool::crd(), Volume::crd()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubectl takes a word for a category before it takes it for a kind: `kubectl delete sparks --all` would delete whatever
    /// else is in a category of that name.
    #[test]
    fn no_category_is_the_name_of_a_kind() {
        let names = || crds().into_iter().map(|crd| crd.spec.names);
        let categories: Vec<String> = names().flat_map(|n| n.categories.unwrap_or_default()).collect();
        assert!(!categories.is_empty());
        for name in names() {
            let short = name.short_names.unwrap_or_default();
            let taken = [Some(name.plural), name.singular, Some(name.kind.to_lowercase()), name.list_kind];
            for word in taken.into_iter().flatten().chain(short) {
                assert!(!categories.contains(&word.to_lowercase()), "{word}");
            }
        }
    }
}
