//! Kinds that are watched and not reconciled.

mod agent;
mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;

pub use node::NodeFacts;

use crate::{
    index::{Index, Reference, Relation},
    kind::Kind,
    volume,
};
use sparks_api::{Spark, SparkPool, Volume};

/// Whoever has data on this node.
fn on_node(node: &str, index: &Index) -> Vec<Reference> {
    let volumes = index.related::<Volume>(&Relation::OnNode(node.into()));
    volumes.flat_map(volume::with_owner).collect()
}

/// Whoever waits for a node.
fn unplaced(index: &Index) -> Vec<Reference> {
    index.related::<Spark>(&Relation::Unplaced).map(Kind::reference).collect()
}

/// All pools: they follow the nodes.
fn pools(index: &Index) -> Vec<Reference> {
    index.all::<SparkPool>().map(Kind::reference).collect()
}
