//! What one pass of a pool depends on.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{NamespacedName, Spark, SparkPool};

use super::Observed;
use crate::{
    index::{Index, Relation},
    kind::Kind,
    known::Known,
    placement,
    watched::NodeFacts,
    world::World,
};

pub(super) fn look(pool: &Known<SparkPool>, world: &World<'_>) -> Observed {
    let mine = world.index.related::<Pod>(&Relation::Pool(pool.id.name.clone()));
    let seen = |name: &NamespacedName| world.index.get::<Pod>(name).is_some();
    Observed {
        pods: mine.filter(|pod| world.memory.holder(&pod.id.uid).is_none()).cloned().collect(),
        expected: world.memory.expected(&pool.id.name, seen, world.now),
        nodes: nodes(pool, world.index),
        kept_nodes: matching(pool, world.index).map(|node| node.name().to_owned()).collect(),
        claims: world.memory.claims(pool.namespace(), world.now),
        template: world.settings.template.clone(),
        refused: refused(pool, world),
        pool: pool.clone(),
        now: world.now.wall,
    }
}

/// Nodes that its selector names, whatever their state.
fn matching<'a>(pool: &'a SparkPool, index: &'a Index) -> impl Iterator<Item = &'a Known<NodeFacts>> {
    index.all::<NodeFacts>().filter(|node| node.matches(&pool.spec.node_selector))
}

/// Those of them that take pods and run a node agent, in a stable order.
fn nodes(pool: &SparkPool, index: &Index) -> Vec<String> {
    let agents = placement::agents(index);
    let has_agent = |node: &&Known<NodeFacts>| agents.iter().any(|agent| agent.node == node.name());
    let mut nodes: Vec<_> =
        matching(pool, index).filter(has_agent).map(|node| node.name().to_owned()).collect();
    nodes.sort();
    nodes
}

fn refused(pool: &SparkPool, world: &World<'_>) -> Option<String> {
    let of_namespace = |name: &NamespacedName| pool.namespace().as_deref() == Some(&*name.namespace);
    world.memory.refused_pods(Spark::NAME).into_iter().find(of_namespace).map(|name| name.name.to_string())
}
