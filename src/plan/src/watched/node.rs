//! Nodes, reduced to what placing needs: they are written every few seconds, and this changes hardly ever.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use super::{on_node, pools, unplaced};
use crate::{
    index::{Change, Index, Reference, Relation},
    known::Known,
    stored::Stored,
};

/// What placing needs of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Whether it is ready and takes new pods.
    pub takes_pods: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl NodeFacts {
    /// Whether it carries these labels.
    #[must_use]
    pub fn matches(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

impl Stored for NodeFacts {
    type Wire = Node;

    fn admit(wire: Node) -> Option<Self> {
        let cordoned = wire.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
        let conditions = wire.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let labels = wire.metadata.labels.into_iter().flatten().collect();
        Some(Self { takes_pods: ready && !cordoned, labels })
    }

    fn relations(_: &Known<Self>) -> Vec<Relation> {
        Vec::new()
    }

    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let facts = |node: Option<&Known<Self>>| node.map(|node| (**node).clone());
        match change.last() {
            Some(node) if facts(change.old) != facts(change.new) => {
                [on_node(node.name(), index), unplaced(index), pools(index)].concat()
            }
            _ => Vec::new(),
        }
    }
}
