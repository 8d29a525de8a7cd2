//! What is known about one pool.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use sparks_api::{SparkPool, labels};
use sparks_plan::pool::{Observed, suffixes_needed};

use super::apply::created_key;
use crate::context::Context;

pub fn gather(pool: &Arc<SparkPool>, context: &Context) -> Observed {
    let namespace = pool.namespace().unwrap_or_default();
    let name = pool.name_any();
    let mine = |pod: &Pod| {
        pod.namespace().as_deref() == Some(&namespace)
            && pod.labels().get(labels::POOL) == Some(&name)
            && context.memory.holder(&pod.uid().unwrap_or_default()).is_none()
    };
    let nodes = context.hub.nodes_of(pool);
    let in_cache = |key: &str| {
        let pod = key.rsplit('/').next().unwrap_or_default();
        context.hub.pods.get(&ObjectRef::new(pod).within(&namespace)).is_some()
    };
    Observed {
        pods: context.hub.pods.state_filter(mine),
        expected: context.memory.expected(&created_key(&namespace, &name, ""), in_cache),
        suffixes: (0..suffixes_needed(nodes.len())).map(|_| suffix()).collect(),
        nodes,
        kept_nodes: context.hub.nodes_matching(pool),
        claims: context.memory.claims(&namespace),
        template: context.template.clone(),
        pool: pool.clone(),
        now: Timestamp::now(),
    }
}

/// Five characters, as Kubernetes puts them behind generated names: no vowels, so that no words come about.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = [0u8; 5];
    crypto_box::aead::rand_core::RngCore::fill_bytes(&mut crypto_box::aead::OsRng, &mut random);
    random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}
