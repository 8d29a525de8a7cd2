//! The two watches: Volumes and pods of this node.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, store::Writer},
        watcher::{Config, Event},
    },
};
use serde::de::DeserializeOwned;
use sparks_api::{NamespacedName, Volume, labels};
use tokio::sync::watch;

use crate::{
    agent::Agent,
    guest::Guests,
    import,
    metrics::{Metrics, operation},
    pods::{self, Change, PodFacts, Role},
    triggers,
};

/// Objects that this version can't read.
#[derive(Default)]
pub struct Unreadable(AtomicUsize, Mutex<HashSet<String>>);

impl Unreadable {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn clear(&self) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.store(0, Ordering::Relaxed);
    }

    fn note(&self, uid: Option<String>, readable: bool) {
        let Some(uid) = uid else { return };
        let mut uids = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if readable {
            uids.remove(&uid)
        } else {
            uids.insert(uid)
        };
        self.0.store(uids.len(), Ordering::Relaxed);
    }
}

/// Follows the Volumes of this node; `ready` turns true after the first full list.
pub async fn volumes(agent: Arc<Agent>, mut writer: Writer<Volume>, ready: watch::Sender<bool>) {
    let config = Config::default().fields(&format!("spec.nodeName={}", agent.config.node_name));
    let api: Api<DeserializeGuard<Volume>> = Api::all(agent.client.clone());
    let mut events = std::pin::pin!(readable(api, config, agent.metrics.clone(), agent.clone()));
    while let Some(event) = events.next().await {
        let event = event.modify(slim);
        let changed = concerned(&agent, &event);
        writer.apply_watcher_event(&event);
        match event {
            // A full list follows, which names them again.
            Event::Init => agent.unreadable.clear(),
            Event::Delete(volume) => {
                agent.memories.forget(&volume.uid().unwrap_or_default());
                agent.triggers.pods_of(&volume);
            }
            Event::InitDone => {
                for volume in agent.triggers.volumes.state() {
                    agent.triggers.queue.trigger(triggers::key(&volume));
                }
                let _ = ready.send(true);
            }
            _ => {}
        }
        if let Some((volume, old)) = changed {
            agent.triggers.queue.trigger(triggers::key(&volume));
            // Whoever waits for the pod that this one let go of.
            if let Some(old) = old.filter(|old| old.spec.attachment != volume.spec.attachment) {
                agent.triggers.pods_of(&old);
            }
        }
    }
}

type Changed = (Volume, Option<Arc<Volume>>);

/// The Volume, if more of it changed than what this agent wrote itself.
fn concerned(agent: &Agent, event: &Event<Volume>) -> Option<Changed> {
    let Event::Apply(volume) = event else { return None };
    let old = agent.triggers.volumes.get(&ObjectRef::from_obj(volume));
    let told = |volume: &Volume| {
        let meta = &volume.metadata;
        (
            meta.uid.clone(),
            meta.generation,
            meta.deletion_timestamp.clone(),
            meta.finalizers.clone(),
            meta.labels.clone(),
            meta.annotations.clone(),
        )
    };
    match old {
        Some(old) if told(&old) == told(volume) => None,
        old => Some((volume.clone(), old)),
    }
}

/// Drops what the agent never looks at.
fn slim(volume: &mut Volume) {
    volume.metadata.managed_fields = None;
    if let Some(annotations) = &mut volume.metadata.annotations {
        annotations.retain(|name, _| name == labels::TRASH_DEADLINE);
    }
}

/// Follows the pods of this node that Sparks made.
pub async fn pods(agent: Arc<Agent>, ready: watch::Sender<bool>) {
    let node = &agent.config.node_name;
    let config = Config::default().fields(&format!("spec.nodeName={node}")).labels(labels::ROLE);
    let api: Api<DeserializeGuard<Pod>> = Api::all(agent.client.clone());
    let mut events = std::pin::pin!(readable(api, config, agent.metrics.clone(), ()));
    let mut list: HashMap<NamespacedName, PodFacts> = HashMap::new();
    while let Some(event) = events.next().await {
        let changes = match event {
            Event::Apply(pod) => Vec::from_iter(agent.pods.apply(key(&pod), Some(pods::facts(&pod)))),
            Event::Delete(pod) => Vec::from_iter(agent.pods.apply(key(&pod), None)),
            Event::Init => {
                list.clear();
                vec![]
            }
            Event::InitApply(pod) => {
                list.insert(key(&pod), pods::facts(&pod));
                vec![]
            }
            Event::InitDone => {
                let changes = agent.pods.replace(std::mem::take(&mut list));
                let _ = ready.send(true);
                changes
            }
        };
        changes.iter().for_each(|change| pod_changed(&agent, change));
    }
}

fn key(pod: &Pod) -> NamespacedName {
    NamespacedName::new(
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

fn pod_changed(agent: &Arc<Agent>, change: &Change) {
    let container =
        |facts: &Option<Arc<PodFacts>>| facts.as_ref().and_then(|facts| facts.running().map(str::to_owned));
    let (old, new) = (container(&change.old), container(&change.new));
    let role = change.new.as_ref().map(|facts| facts.role);
    match role {
        Some(Role::Computer) => {
            if let Some(id) = &new {
                agent.guests.meet(id, &change.key);
            }
        }
        Some(Role::Import) => import::consider(agent, &change.key),
        Some(Role::Other) | None => {}
    }
    if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
        tokio::spawn(retire(agent.clone(), agent.guests.clone(), old));
    }
    agent.triggers.pod(&change.key);
}

/// Forgets a container once its process is gone. Until then it may still stand in a Volume.
async fn retire(agent: Arc<Agent>, guests: Arc<Guests>, container: String) {
    let Some(guest) = guests.get(&container) else { return };
    agent.exits.watch(&container, &guest.pod);
}

/// A watch whose errors are logged and tried again, and from which objects that can't be read are left out.
fn readable<K>(
    api: Api<DeserializeGuard<K>>,
    config: Config,
    metrics: Metrics,
    note: impl Note,
) -> impl Stream<Item = Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    kube::runtime::watcher(api, config).default_backoff().filter_map(move |event| {
        let readable = match event {
            Ok(event) => sift(event, &metrics, &note),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "the watch broke; it is tried again");
                metrics.failed(operation::WATCH, "ApiError");
                None
            }
        };
        std::future::ready(readable)
    })
}

/// Who wants to know what could not be read.
trait Note {
    fn note(&self, uid: Option<String>, readable: bool);
}

impl Note for () {
    fn note(&self, _: Option<String>, _: bool) {}
}

impl Note for Arc<Agent> {
    fn note(&self, uid: Option<String>, readable: bool) {
        self.unreadable.note(uid, readable);
    }
}

fn sift<K: Resource<DynamicType = ()>>(
    event: Event<DeserializeGuard<K>>,
    metrics: &Metrics,
    note: &impl Note,
) -> Option<Event<K>> {
    let open = |guard: DeserializeGuard<K>, gone: bool| {
        let uid = guard.uid();
        note.note(uid, guard.0.is_ok() || gone);
        match guard.0 {
            Ok(object) => Some(object),
            Err(error) => {
                let (namespace, name) = (error.metadata.namespace, error.metadata.name);
                tracing::warn!(kind = %K::kind(&()), ?namespace, ?name, error = error.error, "an object can't be read and is left alone");
                metrics.failed(operation::WATCH, "Unreadable");
                None
            }
        }
    };
    Some(match event {
        Event::Apply(guard) => Event::Apply(open(guard, false)?),
        Event::InitApply(guard) => Event::InitApply(open(guard, false)?),
        Event::Delete(guard) => Event::Delete(open(guard, true)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}
