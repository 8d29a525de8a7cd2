//! A node: its kubelet, its pool, and the node agent, whose planner is the real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStatus, Pod, PodCondition, PodStatus,
};
use sparks_api::{Volume, VolumeStatus, labels};
use sparks_host::pool::{self, Disk, DiskSource, VolumeRequest};
use sparks_node::{
    computer::{Opened, computer},
    guest::{GuestView, Standing},
    volume::{
        blocked::Blocked,
        memory::Memory,
        plan::{self, Observed, PodState, SourceState, Step, wanted},
        status::describe,
    },
};
use sparks_plan::pods;
use sparks_proto::{Computer, ServiceState};
use tokio::time::Instant;

use crate::{
    controller::{RETENTION, Time},
    fault::Fault,
    server::{Key, Kind, Object, Server, State},
};

/// A container and what it stands in.
pub struct Container {
    /// Uid of its pod.
    pub pod_uid: String,
    /// What it stands in.
    pub standing: Standing,
    running: Option<Computer>,
    quiesced: bool,
}

/// A node.
pub struct Machine {
    /// Its name.
    pub name: String,
    who: usize,
    watcher: usize,
    server: Server,
    time: Time,
    volumes: BTreeMap<Key, Volume>,
    pods: BTreeMap<Key, Pod>,
    dirty: BTreeSet<Key>,
    due: BTreeMap<Key, Duration>,
    /// Disks by the uid of their Volume.
    pub disks: BTreeMap<String, Arc<pool::Volume>>,
    /// The trash.
    pub trash: BTreeMap<String, Arc<pool::Volume>>,
    /// Volumes that had disks once.
    pub made: BTreeSet<String>,
    images: BTreeSet<String>,
    /// Containers by id.
    pub containers: BTreeMap<String, Container>,
    started: usize,
}

impl Machine {
    /// A node whose agent has just started.
    pub fn new(name: &str, who: usize, server: &Server, time: &Time) -> Self {
        let watcher = server.state().watcher();
        let mut new = Self {
            name: name.into(),
            who,
            watcher,
            server: server.clone(),
            time: time.clone(),
            volumes: BTreeMap::new(),
            pods: BTreeMap::new(),
            dirty: BTreeSet::new(),
            due: BTreeMap::new(),
            disks: BTreeMap::new(),
            trash: BTreeMap::new(),
            made: BTreeSet::new(),
            images: BTreeSet::new(),
            containers: BTreeMap::new(),
            started: 0,
        };
        new.crash();
        new
    }

    /// Its agent is killed and starts again; disks and containers stay.
    pub fn crash(&mut self) {
        let (volumes, pods) = {
            let mut state = self.server.state();
            if let Some(news) = state.news.get_mut(self.watcher) {
                news.clear();
            }
            (state.list(Kind::Volume), state.list(Kind::Pod))
        };
        (self.volumes, self.pods, self.due) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        volumes.into_iter().chain(pods).for_each(|object| self.learn(object.key(), Some(object)));
    }

    /// Kinds of which there is news.
    pub fn news(&self) -> Vec<Kind> {
        let state = self.server.state();
        let news = state.news.get(self.watcher).into_iter().flatten();
        let mine = |kind: &Kind| [Kind::Volume, Kind::Pod].contains(kind);
        news.filter(|(kind, news)| mine(kind) && !news.is_empty()).map(|(kind, _)| *kind).collect()
    }

    /// Takes in one piece of news.
    pub fn hear(&mut self, kind: Kind) {
        let news = {
            let mut state = self.server.state();
            state.news.get_mut(self.watcher).and_then(|news| news.get_mut(&kind)?.pop_front())
        };
        if let Some(news) = news {
            self.learn(news.key, news.object);
        }
    }

    fn learn(&mut self, key: Key, object: Option<Object>) {
        match object {
            Some(Object::Volume(volume)) if volume.spec.node_name == self.name => {
                self.volumes.insert(key.clone(), *volume);
                self.dirty.insert(key);
            }
            Some(Object::Pod(pod)) if pods::is_on(&pod, &self.name) => {
                if pod
                    .metadata
                    .labels
                    .iter()
                    .flatten()
                    .any(|(k, v)| k == labels::ROLE && v == labels::ROLE_IMPORT)
                {
                    self.import(&pod);
                }
                self.pods.insert(key, *pod);
                self.dirty.extend(self.volumes.keys().cloned());
            }
            _ => {
                self.volumes.remove(&key);
                self.pods.remove(&key);
                self.dirty.extend(self.volumes.keys().cloned());
            }
        }
    }

    fn import(&mut self, pod: &Pod) {
        let key = pod.metadata.labels.as_ref().and_then(|labels| labels.get(labels::IMAGE_KEY));
        if let Some(key) = key.filter(|_| pods::is_ready(pod)) {
            self.images.insert(key.clone());
        }
    }

    /// Volumes that can be looked at.
    pub fn startable(&self) -> Vec<Key> {
        let now = self.time.now();
        let due = self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key);
        self.dirty.iter().chain(due).cloned().collect()
    }

    /// When the next look is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.values().min().copied()
    }

    /// One pass of the node agent; it is killed after so many steps, if that is said.
    pub fn pass(&mut self, key: &Key, killed_after: Option<usize>) {
        self.dirty.remove(key);
        self.due.remove(key);
        let Some(volume) = self.volumes.get(key).cloned() else { return };
        let observed = self.observe(&volume);
        let planned = plan::plan(&volume, &observed, RETENTION, self.time.wall());
        let fault = self.server.state().fault;
        let mut blocked = planned.blocked;
        for (index, step) in planned.steps.into_iter().enumerate() {
            if killed_after == Some(index) {
                return self.crash();
            }
            if let Err(error) = self.act(&volume, step, fault) {
                blocked.push(error);
                break;
            }
        }
        if fault == Some(Fault::DisksOfTheLivingAreTrashed) && volume.spec.attachment.is_none() {
            self.throw_away(uid(&volume));
        }
        if !blocked.is_empty() {
            self.due.insert(key.clone(), self.time.now() + Duration::from_secs(5));
        }
        if volume.metadata.deletion_timestamp.is_none() {
            self.tell(key, &volume, &blocked);
        }
    }

    fn tell(&mut self, key: &Key, volume: &Volume, blocked: &[Blocked]) {
        let observed = self.observe(volume);
        let known = volume.status.clone().unwrap_or_default();
        let new = describe(volume, &known, &observed, &Memory::default(), blocked, self.time.wall());
        if new == known {
            return;
        }
        let mut state = self.server.state();
        if state.get(key).and_then(|object| object.meta().uid.as_deref()) == Some(uid(volume)) {
            let _ = state.update(self.who, "status", key, None, |object| write(object, new));
        }
    }

    fn observe(&self, volume: &Volume) -> Observed {
        let fault = self.server.state().fault;
        let uid = uid(volume);
        let pod = self.pod(volume, fault);
        let present = match &pod {
            PodState::Running(id, _) => Some(id.as_str()),
            _ => None,
        };
        let stands = |container: &Container| container.standing == Standing::Volume(uid.into());
        let others = self.containers.iter().filter(|(id, c)| stands(c) && Some(id.as_str()) != present);
        let others: Vec<_> = others.map(|(id, _)| id.clone()).collect();
        let blind = fault == Some(Fault::AttachIgnoresOtherContainers);
        let computer = wanted(volume).map(|wanted| {
            let host_key = wanted.ssh.as_ref().and_then(|ssh| ssh.sealed_host_key.clone());
            computer(wanted, volume.metadata.namespace.clone(), Opened { env: vec![], host_key })
        });
        Observed {
            disks: self.disks.get(uid).cloned(),
            source: self.source(volume),
            rival: present.and_then(|id| self.rival(volume, id)),
            pod,
            others: if blind { Vec::new() } else { others },
            computer: Ok(computer.unwrap_or_default()),
            quiescing: None,
        }
    }

    fn pod(&self, volume: &Volume, fault: Option<Fault>) -> PodState {
        let Some(wanted) = wanted(volume) else { return PodState::Unwanted };
        let namespace = volume.metadata.namespace.clone().unwrap_or_default();
        let key = (Kind::Pod, namespace, wanted.pod_name.clone());
        let Some(pod) = self.pods.get(&key) else { return PodState::Unseen };
        let label = |object: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, key: &str| {
            object.labels.as_ref().and_then(|labels| labels.get(key).cloned())
        };
        let mine = label(&pod.metadata, labels::SPARK_UID) == label(&volume.metadata, labels::OWNER_UID);
        let same = pod.metadata.uid.as_deref() == Some(&wanted.pod_uid);
        if !(mine && same) && fault != Some(Fault::AttachTakesForeignPods) {
            return PodState::Foreign;
        }
        let found = self.containers.iter().find(|(_, c)| Some(&c.pod_uid) == pod.metadata.uid.as_ref());
        found.map_or(PodState::NotRunning, |(id, container)| {
            PodState::Running(id.clone(), Box::new(view(container)))
        })
    }

    fn rival(&self, volume: &Volume, container: &str) -> Option<String> {
        let Standing::Volume(other) = &self.containers.get(container)?.standing else { return None };
        let other = self.volumes.values().find(|v| uid(v) == other && uid(v) != uid(volume))?;
        let same = wanted(other)?.pod_uid == wanted(volume)?.pod_uid;
        same.then(|| other.metadata.name.clone().unwrap_or_default())
    }

    fn source(&self, volume: &Volume) -> SourceState {
        if let Some(image) = &volume.spec.source.image {
            let there = self.images.contains(&image.key);
            return if there { SourceState::Image } else { SourceState::ImageMissing(None) };
        }
        let Some(from) = &volume.spec.source.volume else { return SourceState::Empty };
        match self.disks.get(&from.uid) {
            Some(source) => SourceState::Volume(source.disks.iter().map(|disk| disk.name.clone()).collect()),
            None if self.volumes.values().any(|v| uid(v) == from.uid) => SourceState::VolumeNotReady,
            None => SourceState::VolumeMissing,
        }
    }

    fn act(&mut self, volume: &Volume, step: Step, fault: Option<Fault>) -> Result<(), Blocked> {
        let gone = || Blocked::new("Attached", sparks_api::Reason::PodStarting, "the container ended");
        match step {
            Step::Create(request) => self.create(&request),
            Step::SetLimit { .. } => {}
            Step::Quiesce { container } => {
                self.containers.get_mut(&container).ok_or_else(gone)?.quiesced = true;
                self.dirty.extend(self.volumes.keys().cloned());
            }
            Step::Attach { container, .. } => {
                let container = self.containers.get_mut(&container).ok_or_else(gone)?;
                (container.standing, container.quiesced) = (Standing::Volume(uid(volume).into()), false);
                container.running = None;
            }
            Step::Run { container, computer } => {
                self.containers.get_mut(&container).ok_or_else(gone)?.running = Some(computer);
            }
            Step::Trash { .. } if fault == Some(Fault::FinalizersAreDroppedBeforeTheTrash) => {
                self.disks.remove(uid(volume));
            }
            Step::Trash { .. } => self.throw_away(uid(volume)),
            Step::RemoveFinalizer => {
                let key = Object::Volume(Box::new(volume.clone())).key();
                let mut state = self.server.state();
                let _ = state.update(self.who, "release", &key, None, |object| {
                    if let Object::Volume(volume) = object {
                        volume.metadata.finalizers = None;
                    }
                });
            }
        }
        Ok(())
    }

    fn create(&mut self, request: &VolumeRequest) {
        let disks = request.disks.iter().map(|disk| Disk {
            name: disk.name.clone(),
            subvol_id: 0,
            limit_bytes: disk.limit_bytes,
            source: disk.source.clone(),
            read_only: disk.read_only,
            inherited_bytes: 0,
        });
        debug_assert!(
            request.disks.iter().all(
                |d| !matches!(&d.source, DiskSource::Volume { uid, .. } if !self.disks.contains_key(uid))
            )
        );
        let volume =
            pool::Volume { uid: request.uid.clone(), disks: disks.collect(), meta: request.meta.clone() };
        self.made.insert(request.uid.clone());
        self.disks.insert(request.uid.clone(), Arc::new(volume));
        self.dirty.extend(self.volumes.keys().cloned());
    }

    fn throw_away(&mut self, uid: &str) {
        if let Some(disks) = self.disks.remove(uid) {
            self.trash.insert(uid.into(), disks);
        }
    }

    /// What scheduler and kubelet can do now: pods to bind, to start and to end.
    pub fn chores(&self) -> Vec<Key> {
        let state = self.server.state();
        let mine = state.pods().filter(|pod| {
            let bound = pods::is_on(pod, &self.name);
            let unbound = pods::node(pod).is_none() && pods::wanted_node(pod) == Some(&self.name);
            unbound || bound && (pod.metadata.deletion_timestamp.is_some() || !pods::is_ready(pod))
        });
        mine.map(|pod| Object::Pod(Box::new(pod.clone())).key()).collect()
    }

    /// Does one of them.
    pub fn chore(&mut self, key: &Key) {
        let server = self.server.clone();
        let mut state = server.state();
        let Some(Object::Pod(pod)) = state.get(key).cloned() else { return };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            let before = self.containers.len();
            self.containers.retain(|_, container| container.pod_uid != uid);
            if before == self.containers.len() {
                state.drop_object(key);
            }
            drop(state);
            return self.dirty.extend(self.volumes.keys().cloned());
        }
        if pods::node(&pod).is_none() {
            let node = self.name.clone();
            let _ = state.update(self.who, "bind", key, None, |object| {
                if let Object::Pod(pod) = object
                    && let Some(spec) = &mut pod.spec
                {
                    spec.node_name = Some(node);
                }
            });
            return;
        }
        self.started += 1;
        let id = format!("{}-{}", self.name, self.started);
        self.start(&mut state, key, &uid, &id);
    }

    fn start(&mut self, state: &mut State, key: &Key, uid: &str, id: &str) {
        let container =
            Container { pod_uid: uid.into(), standing: Standing::Image, running: None, quiesced: false };
        self.containers.insert(id.into(), container);
        let _ = state.update(self.who, "start", key, None, |object| {
            if let Object::Pod(pod) = object {
                pod.status = Some(running(id));
            }
        });
    }

    /// A container ends and is started again by the kubelet.
    pub fn restart(&mut self, index: usize) {
        let Some(id) = self.containers.keys().nth(index).cloned() else { return };
        let Some(container) = self.containers.remove(&id) else { return };
        let server = self.server.clone();
        let mut state = server.state();
        let pod = state.pods().find(|pod| pod.metadata.uid.as_deref() == Some(&container.pod_uid));
        let Some(key) = pod.map(|pod| Object::Pod(Box::new(pod.clone())).key()) else { return };
        self.started += 1;
        let id = format!("{}-{}", self.name, self.started);
        self.start(&mut state, &key, &container.pod_uid, &id);
    }
}

/// The uid of a Volume that came by the server.
pub fn uid(volume: &Volume) -> &str {
    volume.metadata.uid.as_deref().unwrap_or("")
}

fn write(object: &mut Object, status: VolumeStatus) {
    if let Object::Volume(volume) = object {
        volume.status = Some(status);
    }
}

fn view(container: &Container) -> GuestView {
    let ready = ServiceState { ready: true, restarts: 0, message: None };
    GuestView {
        standing: Some(container.standing.clone()),
        connected: true,
        running: container.running.clone(),
        service: container.running.as_ref().map(|_| ready),
        ready_at: None,
        idle_since: None,
        quiesce_sent: container.quiesced.then(Instant::now),
        quiesced: container.quiesced,
    }
}

fn running(id: &str) -> PodStatus {
    let ready = PodCondition { type_: "Ready".into(), status: "True".into(), ..Default::default() };
    let state = ContainerState { running: Some(ContainerStateRunning::default()), ..Default::default() };
    let container = ContainerStatus {
        name: pods::CONTAINER.into(),
        container_id: Some(format!("containerd://{id}")),
        ready: true,
        state: Some(state),
        ..Default::default()
    };
    PodStatus {
        phase: Some("Running".into()),
        pod_ip: Some("10.0.0.7".into()),
        conditions: Some(vec![ready]),
        container_statuses: Some(vec![container]),
        ..Default::default()
    }
}
