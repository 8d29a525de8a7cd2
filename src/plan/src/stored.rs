//! What is kept of each kind that is watched.

use std::fmt::Debug;

use kube::Resource;
use serde::de::DeserializeOwned;

use crate::{
    index::{Change, Index, Reference, Relation},
    known::Known,
    memory::Memory,
    world::Now,
};

/// Where a kind is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Cluster,
    /// In the namespace of the installation.
    Installation,
}

/// What is kept of a kind that is watched, what ties it to others, and whom its changes concern.
pub trait Stored: Sized + Debug + Send + Sync + 'static {
    /// As the API server sends it.
    type Wire: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static;
    /// Where it is watched.
    const SCOPE: Scope = Scope::Cluster;
    /// Which of them: a label selector.
    const SELECTOR: Option<&'static str> = None;

    /// Takes what is needed of it; none when it counts as not there.
    fn admit(wire: Self::Wire) -> Option<Self>;

    /// Its ties.
    fn relations(this: &Known<Self>) -> Vec<Relation>;

    /// What has to be looked at after this change, which is in the index already.
    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference>;

    /// What need not be remembered any more, because it is known.
    fn noticed(_change: &Change<'_, Self>, _memory: &Memory, _now: Now) {}
}
