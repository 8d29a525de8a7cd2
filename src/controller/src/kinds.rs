//! Everything that is watched, and everything that is reconciled: a new kind is one line in each list.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, Service};
use sparks_api::{Checkpoint, NamespacedName, Spark, SparkPool, Volume};
use sparks_ops::queue::Again;
use sparks_plan::{
    index::{Index, Reference},
    placement::Agent,
    watched::NodeFacts,
};

use crate::{
    context::Context,
    driver::{Act, pass},
    watch::Watch,
};

/// What is watched.
pub fn watches() -> Vec<Watch> {
    vec![
        Watch::of::<Spark>(),
        Watch::of::<Checkpoint>(),
        Watch::of::<SparkPool>(),
        Watch::of::<Volume>(),
        Watch::of::<Pod>(),
        Watch::of::<Agent>(),
        Watch::of::<NodeFacts>(),
        Watch::of::<Service>(),
    ]
}

/// What is reconciled.
pub fn reconciled() -> Vec<Reconciled> {
    vec![
        Reconciled::of::<Spark>(),
        Reconciled::of::<Checkpoint>(),
        Reconciled::of::<SparkPool>(),
        Reconciled::of::<Volume>(),
    ]
}

/// Everything that is reconciled, as far as it is known.
pub fn everything(index: &Index) -> Vec<Reference> {
    reconciled().iter().flat_map(|kind| (kind.all)(index)).collect()
}

impl Act for Checkpoint {}
impl Act for SparkPool {}
impl Act for Volume {}

/// One kind that is reconciled.
pub struct Reconciled {
    /// As in the API.
    pub kind: &'static str,
    /// Passes that run at the same time.
    pub concurrency: usize,
    /// All that are known.
    pub all: fn(&Index) -> Vec<Reference>,
    /// One pass.
    pub pass: fn(Arc<Context>, NamespacedName) -> BoxFuture<'static, Again>,
}

impl Reconciled {
    fn of<K: Act>() -> Self {
        Self {
            kind: K::NAME,
            concurrency: K::CONCURRENCY,
            all: |index| index.all::<K>().map(K::reference).collect(),
            pass: |context, name| Box::pin(pass::<K>(context, name)),
        }
    }
}
