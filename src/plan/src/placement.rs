//! Which node takes a new Spark, and which warm pod it becomes.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{NamespacedName, labels};

use crate::{index::Index, known::Known, watched::NodeFacts};

/// One node with a running node agent, as its own pod's annotations tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// The node.
    pub node: String,
    /// Free bytes of its pool, less the reserve.
    pub free_bytes: u64,
    /// X25519 public key, in hex, to which secrets are sealed.
    pub public_key: Option<String>,
}

impl Agent {
    /// Reads a node agent's pod; `None` while it isn't ready.
    #[must_use]
    pub fn from_pod(pod: &Pod) -> Option<Self> {
        let ready = pod.metadata.deletion_timestamp.is_none() && crate::pods::is_ready(pod);
        let annotation = |key: &str| pod.annotations().get(key);
        let node = pod.spec.as_ref()?.node_name.clone()?;
        ready.then(|| Self {
            node,
            free_bytes: annotation(labels::POOL_FREE).and_then(|v| v.parse().ok()).unwrap_or(0),
            public_key: annotation(labels::PUBLIC_KEY).cloned(),
        })
    }
}

/// Nodes with a running node agent that take pods.
#[must_use]
pub fn agents(index: &Index) -> Vec<Agent> {
    let takes_pods = |agent: &&Known<Agent>| {
        let node = index.get::<NodeFacts>(&NamespacedName::new("", &agent.node));
        node.is_some_and(|node| node.takes_pods)
    };
    let mut agents: Vec<_> = index.all::<Agent>().filter(takes_pods).map(|agent| (**agent).clone()).collect();
    agents.sort_by(|a, b| a.node.cmp(&b.node));
    agents
}

/// The node for a Spark that has no data yet: one with a warm pod first, then the one with most free bytes.
#[must_use]
pub fn choose<'a>(agents: &'a [Agent], warm: &[Known<Pod>]) -> Option<&'a Agent> {
    let warm_on = |agent: &Agent| warm.iter().any(|pod| crate::pods::is_on(pod, &agent.node));
    agents
        .iter()
        .filter(|agent| agent.free_bytes > 0)
        .max_by_key(|agent| (warm_on(agent), agent.free_bytes, std::cmp::Reverse(&agent.node)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn agent(node: &str, free_bytes: u64) -> Agent {
        Agent { node: node.into(), free_bytes, public_key: None }
    }

    fn pod_on(node: &str) -> Known<Pod> {
        let spec = k8s_openapi::api::core::v1::PodSpec { node_name: Some(node.into()), ..Default::default() };
        let mut pod = Pod { spec: Some(spec), ..Default::default() };
        let text = |text: &str| Some(text.to_owned());
        (pod.metadata.name, pod.metadata.namespace, pod.metadata.uid) = (text("p"), text("team"), text("u"));
        Known::of(pod).unwrap()
    }

    #[test]
    fn a_node_with_a_warm_pod_wins_over_one_with_more_room() {
        let agents = [agent("big", 100), agent("warm", 10)];
        assert_eq!(choose(&agents, &[]).map(|a| a.node.as_str()), Some("big"));
        assert_eq!(choose(&agents, &[pod_on("warm")]).map(|a| a.node.as_str()), Some("warm"));
    }

    #[test]
    fn a_full_node_is_never_chosen() {
        assert_eq!(choose(&[agent("full", 0)], &[pod_on("full")]), None);
    }
}
