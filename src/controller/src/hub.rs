//! Caches of everything that the reconcilers look at, and the look-ups that they need.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use sparks_api::{Checkpoint, Spark, SparkPool, Volume, labels};
use sparks_plan::{
    placement::{self, Agent},
    pods,
};

/// Caches of everything that the reconcilers look at.
pub struct Hub {
    /// All Sparks.
    pub sparks: Store<Spark>,
    /// All Checkpoints.
    pub checkpoints: Store<Checkpoint>,
    /// All pools.
    pub pools: Store<SparkPool>,
    /// All Volumes.
    pub volumes: Store<Volume>,
    /// All pods of Sparks, pools and imports.
    pub pods: Store<Pod>,
    /// The node agents' pods.
    pub agent_pods: Store<Pod>,
    /// All nodes.
    pub nodes: Store<Node>,
    /// All Services.
    pub services: Store<Service>,
}

/// Whether a label or annotation map has this pair.
fn has_label(object: &impl ResourceExt, key: &str, value: &str) -> bool {
    object.labels().get(key).is_some_and(|found| found == value)
}

impl Hub {
    /// Nodes with a running node agent that take pods.
    pub fn agents(&self) -> Vec<Agent> {
        let agents = self.agent_pods.state();
        agents
            .iter()
            .filter_map(|pod| Agent::from_pod(pod))
            .filter(|agent| self.takes_pods(&agent.node))
            .collect()
    }

    fn takes_pods(&self, node: &str) -> bool {
        self.nodes
            .get(&ObjectRef::new(node))
            .is_some_and(|node| placement::takes_pods(&node, &Default::default()))
    }

    /// Nodes that a pool serves, in a stable order.
    pub fn nodes_of(&self, pool: &SparkPool) -> Vec<String> {
        let matches = |name: &str| {
            let node = self.nodes.get(&ObjectRef::new(name));
            node.is_some_and(|node| placement::takes_pods(&node, &pool.spec.node_selector))
        };
        let mut nodes: Vec<_> =
            self.agents().into_iter().map(|agent| agent.node).filter(|name| matches(name)).collect();
        nodes.sort();
        nodes
    }

    /// Nodes that a pool's selector names, whatever their state.
    pub fn nodes_matching(&self, pool: &SparkPool) -> Vec<String> {
        let wanted = &pool.spec.node_selector;
        let matches = |node: &Node| wanted.iter().all(|(key, value)| node.labels().get(key) == Some(value));
        self.nodes.state_filter(matches).iter().map(|node| node.name_any()).collect()
    }

    /// Whether the cluster has this node.
    pub fn node_exists(&self, name: &str) -> bool {
        self.nodes.get(&ObjectRef::new(name)).is_some()
    }

    /// A Spark by name.
    pub fn spark(&self, namespace: &str, name: &str) -> Option<Arc<Spark>> {
        self.sparks.get(&ObjectRef::new(name).within(namespace))
    }

    /// A Checkpoint by name.
    pub fn checkpoint(&self, namespace: &str, name: &str) -> Option<Arc<Checkpoint>> {
        self.checkpoints.get(&ObjectRef::new(name).within(namespace))
    }

    /// Volumes with this owner, in the trash or not, that are not being deleted.
    pub fn volumes_of(&self, namespace: &str, owner_uid: &str, trashed: bool) -> Vec<Arc<Volume>> {
        self.volumes.state_filter(|volume| {
            has_label(volume, labels::OWNER_UID, owner_uid)
                && volume.metadata.namespace.as_deref() == Some(namespace)
                && volume.spec.trashed_at.is_some() == trashed
                && volume.metadata.deletion_timestamp.is_none()
        })
    }

    /// The Volume that is this Spark's now.
    pub fn live_volume(&self, spark: &Spark) -> Option<Arc<Volume>> {
        let volumes = self.volumes_of(&spark.namespace()?, &spark.uid()?, false);
        let recorded =
            spark.status.as_ref().and_then(|status| status.volume.as_ref()).map(|volume| &volume.name);
        let found = volumes.iter().find(|volume| Some(&volume.name_any()) == recorded);
        found.or(volumes.first()).cloned()
    }

    /// Pods that are this Spark's.
    pub fn pods_of(&self, spark_uid: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| has_label(pod, labels::SPARK_UID, spark_uid))
    }

    /// Free warm pods of a namespace, oldest first.
    pub fn warm_pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let mut warm = self
            .pods
            .state_filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace) && pods::is_free(pod));
        warm.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|at| at.0), pod.name_any()));
        warm
    }

    /// The pod that imports an image on a node.
    pub fn import_pod(&self, volume: &Volume) -> Option<Arc<Pod>> {
        let key = &volume.spec.source.image.as_ref()?.key;
        let name = sparks_plan::names::import_pod(key, &volume.spec.node_name);
        self.pods.get(&ObjectRef::new(&name).within(&volume.namespace()?))
    }

    /// The Service of this name, whoever's it is.
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(namespace))
    }
}
