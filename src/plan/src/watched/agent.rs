//! Node agents, as their own pods tell.

use k8s_openapi::api::core::v1::Pod;
use sparks_api::labels;

use super::{on_node, pools, unplaced};
use crate::{
    index::{Change, Index, Reference, Relation},
    known::Known,
    placement::Agent,
    stored::{Scope, Stored},
};

impl Stored for Agent {
    type Wire = Pod;
    const SCOPE: Scope = Scope::Installation;
    const SELECTOR: Option<&'static str> = Some(labels::AGENT_SELECTOR);

    fn admit(wire: Pod) -> Option<Self> {
        Self::from_pod(&wire)
    }

    fn relations(_: &Known<Self>) -> Vec<Relation> {
        Vec::new()
    }

    /// It writes its free bytes often; only its coming and going, another key, and the end of a full pool concern anybody.
    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let means = |agent: &Known<Self>| (agent.node.clone(), agent.public_key.clone());
        let room = |agent: &Known<Self>| agent.free_bytes > 0;
        let Some(agent) = change.last() else { return Vec::new() };
        if change.old.map(means) != change.new.map(means) {
            return [on_node(&agent.node, index), unplaced(index), pools(index)].concat();
        }
        if change.old.map(room) != change.new.map(room) { unplaced(index) } else { Vec::new() }
    }
}
