//! The pods of this node, reduced to what attaching needs.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use sparks_api::{NamespacedName, labels};

/// What a pod of Sparks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Spark's computer, or one that waits to become one.
    Computer,
    /// It mounts an image for its import.
    Import,
    /// A role that this version doesn't know.
    Other,
}

/// The only container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// It does not run yet, or is being restarted.
    NotRunning,
    /// It runs; the id is without the runtime's prefix.
    Running(String),
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its uid.
    pub uid: String,
    /// What it is.
    pub role: Role,
    /// Uid of the Spark that it was given to.
    pub spark_uid: Option<String>,
    /// Key and reference of the image that it imports.
    pub image: Option<(String, String)>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its container.
    pub container: Container,
}

impl PodFacts {
    /// The container, if it runs.
    pub fn running(&self) -> Option<&str> {
        match &self.container {
            Container::Running(id) => Some(id),
            Container::NotRunning => None,
        }
    }
}

/// Reduces a pod.
pub fn facts(pod: &Pod) -> PodFacts {
    let label = |name: &str| pod.labels().get(name).cloned();
    let role = match pod.labels().get(labels::ROLE).map(String::as_str) {
        Some(labels::ROLE_WARM | labels::ROLE_SPARK) => Role::Computer,
        Some(labels::ROLE_IMPORT) => Role::Import,
        _ => Role::Other,
    };
    let status = pod.status.as_ref();
    PodFacts {
        uid: pod.uid().unwrap_or_default(),
        role,
        spark_uid: label(labels::SPARK_UID),
        image: label(labels::IMAGE_KEY).zip(pod.annotations().get(labels::IMAGE).cloned()),
        ip: status.and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok()),
        container: status
            .map_or(Container::NotRunning, |s| container(s.container_statuses.as_deref().unwrap_or(&[]))),
    }
}

/// A webhook may have added containers, so ours is looked for by its name first.
fn container(statuses: &[ContainerStatus]) -> Container {
    let ours = statuses.iter().find(|s| s.name == sparks_plan::pods::CONTAINER).or(statuses.first());
    let running = ours.filter(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    let id = running.and_then(|s| s.container_id.as_deref()).and_then(|id| id.split_once("://"));
    id.map_or(Container::NotRunning, |(_, id)| Container::Running(id.to_owned()))
}

/// All pods of this node that Sparks made.
#[derive(Default)]
pub struct Pods {
    all: RwLock<HashMap<NamespacedName, Arc<PodFacts>>>,
}

/// A pod that changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The pod.
    pub key: NamespacedName,
    /// What it was.
    pub old: Option<Arc<PodFacts>>,
    /// What it is now; none once it is gone.
    pub new: Option<Arc<PodFacts>>,
}

impl Pods {
    /// The pod of this name.
    pub fn get(&self, key: &NamespacedName) -> Option<Arc<PodFacts>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Takes in one pod, or its end; nothing is returned when nothing that matters changed.
    pub fn apply(&self, key: NamespacedName, new: Option<PodFacts>) -> Option<Change> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let new = new.map(Arc::new);
        let old = match &new {
            Some(new) => all.insert(key.clone(), new.clone()),
            None => all.remove(&key),
        };
        (old != new).then_some(Change { key, old, new })
    }

    /// Takes in a full list.
    pub fn replace(&self, list: HashMap<NamespacedName, PodFacts>) -> Vec<Change> {
        let gone: Vec<NamespacedName> = {
            let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
            all.keys().filter(|key| !list.contains_key(key)).cloned().collect()
        };
        let gone = gone.into_iter().map(|key| (key, None));
        gone.chain(list.into_iter().map(|(key, new)| (key, Some(new))))
            .filter_map(|(key, new)| self.apply(key, new))
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {labels::ROLE: "spark", labels::SPARK_UID: "s"}},
            "status": {"podIP": "10.0.0.7", "containerStatuses": [status]},
        }))
        .unwrap()
    }

    fn status(state: serde_json::Value) -> serde_json::Value {
        json!({"name": "spark", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
               "containerID": "containerd://abc", "state": state})
    }

    #[test]
    fn a_running_container_is_known_by_its_id_without_the_prefix() {
        let facts = facts(&pod(status(json!({"running": {}}))));
        assert_eq!((facts.running(), facts.role), (Some("abc"), Role::Computer));
        assert_eq!(facts.ip, Some([10, 0, 0, 7].into()));
    }

    #[test]
    fn a_container_that_ended_is_not_running_though_it_has_an_id() {
        assert_eq!(facts(&pod(status(json!({"terminated": {"exitCode": 1}})))).running(), None);
    }

    #[test]
    fn a_new_list_drops_the_pods_that_are_not_in_it_and_reports_only_changes() {
        let pods = Pods::default();
        let facts = facts(&pod(status(json!({"running": {}}))));
        pods.apply(NamespacedName::new("n", "old"), Some(facts.clone()));
        pods.apply(NamespacedName::new("n", "same"), Some(facts.clone()));
        let changes = pods.replace([(NamespacedName::new("n", "same"), facts)].into());
        assert_eq!(changes.len(), 1);
        assert_eq!((&*changes[0].key.name, changes[0].new.is_none()), ("old", true));
    }
}
