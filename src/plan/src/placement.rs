//! Which node takes a new Spark, and which warm pod it becomes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use sparks_api::labels;

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
            free_bytes: annotation(labels::POOL_FREE).and_then(|v| v.parse().ok()).unwrap_or_default(),
            public_key: annotation(labels::PUBLIC_KEY).cloned(),
        })
    }
}

/// Whether the node takes pods and carries these labels.
#[must_use]
pub fn takes_pods(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    let schedulable = !node.spec.as_ref().is_some_and(|spec| spec.unschedulable.unwrap_or_default());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    schedulable && ready && selector.iter().all(|(key, value)| node.labels().get(key) == Some(value))
}

/// The node for a Spark that has no data yet: one with a warm pod first, then the one with most free bytes.
#[must_use]
pub fn choose<'a>(agents: &'a [Agent], warm: &[&Pod]) -> Option<&'a Agent> {
    let warm_on = |agent: &Agent| warm.iter().any(|pod| crate::pods::node(pod) == Some(&agent.node));
    agents
        .iter()
        .filter(|agent| agent.free_bytes > 0)
        .max_by_key(|agent| (warm_on(agent), agent.free_bytes, std::cmp::Reverse(&agent.node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(node: &str, free_bytes: u64) -> Agent {
        Agent { node: node.into(), free_bytes, public_key: None }
    }

    fn pod_on(node: &str) -> Pod {
        let spec = k8s_openapi::api::core::v1::PodSpec { node_name: Some(node.into()), ..Default::default() };
        Pod { spec: Some(spec), ..Default::default() }
    }

    #[test]
    fn a_node_with_a_warm_pod_wins_over_one_with_more_room() {
        let agents = [agent("big", 100), agent("warm", 10)];
        assert_eq!(choose(&agents, &[]).map(|a| a.node.as_str()), Some("big"));
        assert_eq!(choose(&agents, &[&pod_on("warm")]).map(|a| a.node.as_str()), Some("warm"));
    }

    #[test]
    fn a_full_node_is_never_chosen() {
        assert_eq!(choose(&[agent("full", 0)], &[&pod_on("full")]), None);
    }
}
