//! The whole: a server, controllers, nodes and users, and the rules that hold after every step.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use fastrand::Rng;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as KubeTime;
use serde_json::{Value, json};
use sparks_api::{
    Reason, Spark,
    conditions::{self, PROVISIONED, READY},
    labels,
};
use sparks_node::guest::Standing;
use sparks_plan::pods;

use crate::{
    api::SECRET,
    controller::{Controller, Time},
    fault::Fault,
    machine::{Machine, uid},
    server::{Key, Kind, Object, Server},
};

const NAMESPACE: &str = "team";
/// Who the users, the kubelets and the garbage collector are to the server.
const OTHERS: usize = 99;
/// Passes after which what does not come to rest never does.
const MOST_PASSES: usize = 4000;

/// The whole.
pub struct World {
    server: Server,
    /// The time.
    pub time: Time,
    controllers: Vec<Controller>,
    machines: Vec<Machine>,
    /// What chance there is, from a seed.
    pub rng: Rng,
    names: usize,
    /// When somebody last came to each Spark, by uid.
    seen: HashMap<String, Timestamp>,
}

fn object(kind: Kind, value: Value) -> Object {
    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Box<T> {
        Box::new(serde_json::from_value(value).expect("a test's own object"))
    }
    match kind {
        Kind::Spark => Object::Spark(read(value)),
        Kind::Checkpoint => Object::Checkpoint(read(value)),
        Kind::Pool => Object::Pool(read(value)),
        Kind::Agent => Object::Agent(read(value)),
        Kind::Node => Object::Node(read(value)),
        _ => unreachable!("no user makes a {kind:?}"),
    }
}

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn agent(node: &str) -> Value {
    json!({
        "metadata": {"name": format!("agent-{node}"), "namespace": "sparks-system", "annotations": {
            labels::POOL_FREE: "1000000000", labels::PUBLIC_KEY: "07".repeat(32)}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

impl World {
    /// So many controllers and nodes, and a pool.
    pub fn new(seed: u64, controllers: usize, nodes: usize, fault: Option<Fault>) -> Self {
        let (server, time) = (Server::default(), Time::default());
        server.state().now = time.wall();
        let names: Vec<_> = (1..=nodes).map(|n| format!("n{n}")).collect();
        let mut new = Self {
            machines: names.iter().map(|name| Machine::new(name, OTHERS, &server, &time)).collect(),
            server,
            time,
            controllers: Vec::new(),
            rng: Rng::with_seed(seed),
            names: 0,
            seen: HashMap::new(),
        };
        for name in &names {
            new.make(Kind::Node, node(name));
            new.make(Kind::Agent, agent(name));
        }
        new.make(
            Kind::Pool,
            json!({"metadata": {"name": "warm", "namespace": NAMESPACE}, "spec": {"size": 2}}),
        );
        new.controllers = (0..controllers).map(|who| Controller::new(who, &new.server, &new.time)).collect();
        new.server.state().fault = fault;
        new
    }

    fn make(&mut self, kind: Kind, value: Value) {
        let _ = self.server.state().create(OTHERS, object(kind, value));
    }

    /// Limits the number of pods, or lifts the limit.
    pub fn limit_pods(&self, most: Option<usize>) {
        self.server.state().quota = most;
    }

    /// Writes of controllers and node agents so far.
    pub fn writes(&self) -> Vec<String> {
        let state = self.server.state();
        state.writes.iter().map(|(_, what)| what.clone()).collect()
    }

    /// Makes a Spark of this spec.
    pub fn spark(&mut self, name: &str, spec: Value) {
        self.make(Kind::Spark, json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}));
    }

    /// Makes a Checkpoint.
    pub fn checkpoint(&mut self, name: &str, spark: &str) {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        self.make(Kind::Checkpoint, json!({"metadata": metadata, "spec": {"spark": spark}}));
    }

    fn key(kind: Kind, name: &str) -> Key {
        (kind, NAMESPACE.into(), name.into())
    }

    /// Changes a Spark as its user does.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Spark)) {
        let mut state = self.server.state();
        let _ = state.update(OTHERS, "edit", &Self::key(Kind::Spark, name), None, |object| {
            if let Object::Spark(spark) = object {
                let before = spark.spec.clone();
                change(spark);
                let generation = spark.metadata.generation.unwrap_or(1);
                spark.metadata.generation = Some(generation + i64::from(before != spark.spec));
            }
        });
    }

    /// Deletes an object as its user does.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let _ = self.server.state().delete(OTHERS, &Self::key(kind, name), None, None);
    }

    /// A Spark by name.
    pub fn find(&self, name: &str) -> Option<Spark> {
        let state = self.server.state();
        state.sparks().find(|spark| spark.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let state = self.server.state();
        state.objects.keys().filter(|key| key.0 == kind).map(|key| key.2.clone()).collect()
    }

    fn one_of(&mut self, kind: Kind) -> Option<String> {
        let names = self.names(kind);
        (!names.is_empty()).then(|| names[self.rng.usize(..names.len())].clone())
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Somebody does something.
    fn user(&mut self) {
        match self.rng.u8(..14) {
            0..=2 => {
                let name = self.name("s");
                let service = json!({"command": ["x"], "envFrom": [{"secretRef": {"name": "token"}}]});
                let lifecycle = if self.rng.bool() { json!({}) } else { json!({"ttl": "30m"}) };
                self.spark(&name, json!({"image": "debian", "service": service, "lifecycle": lifecycle}));
            }
            3..=5 => {
                let (Some(source), name) = (self.one_of(Kind::Spark), self.name("f")) else { return };
                self.spark(&name, json!({"from": {"spark": source}}));
            }
            6 => {
                let (Some(spark), name) = (self.one_of(Kind::Spark), self.name("c")) else { return };
                self.checkpoint(&name, &spark);
            }
            7 => {
                let Some(name) = self.one_of(Kind::Spark) else { return };
                self.change(&name, |spark| spark.spec.lifecycle.running ^= true);
            }
            8 => {
                let Some(name) = self.one_of(Kind::Spark) else { return };
                self.delete(Kind::Spark, &name);
            }
            9 => {
                let Some(name) = self.one_of(Kind::Checkpoint) else { return };
                self.delete(Kind::Checkpoint, &name);
            }
            10 => {
                let (Some(name), Some(checkpoint)) =
                    (self.one_of(Kind::Spark), self.one_of(Kind::Checkpoint))
                else {
                    return;
                };
                let id = Some(self.rng.u8(..).to_string());
                self.change(&name, |spark| spark.spec.restore = Some(sparks_api::Restore { checkpoint, id }));
            }
            11 => {
                let Some(name) = self.one_of(Kind::Pod) else { return };
                self.delete(Kind::Pod, &name);
            }
            12 => {
                let Some(name) = self.one_of(Kind::Spark) else { return };
                let resources = json!({"requests": {"cpu": "100m"}});
                self.change(&name, |spark| spark.spec.resources = serde_json::from_value(resources).ok());
            }
            _ => self.visit(),
        }
    }

    /// The gateway says that somebody came.
    fn visit(&mut self) {
        let Some(name) = self.one_of(Kind::Spark) else { return };
        let now = self.time.wall();
        let mut uid = None;
        self.change(&name, |spark| {
            uid.clone_from(&spark.metadata.uid);
            spark.status.get_or_insert_default().last_activity_at = Some(KubeTime(now));
        });
        self.seen.extend(uid.map(|uid| (uid, now)));
    }

    /// Something happens.
    pub fn step(&mut self, disasters: bool) {
        match self.rng.u8(..100) {
            0..=5 => self.user(),
            6..=45 => self.control(),
            46..=85 => self.work(),
            86..=90 => _ = self.server.state().collect_garbage(OTHERS),
            91..=95 => {
                let pause = Duration::from_millis(self.rng.u64(1..2000));
                self.wait(pause);
            }
            96 if disasters => self.disaster(),
            _ => {}
        }
    }

    fn disaster(&mut self) {
        let (c, m) = (self.rng.usize(..self.controllers.len()), self.rng.usize(..self.machines.len()));
        match self.rng.u8(..4) {
            0 => self.controllers[c].crash(),
            1 => {
                let kind = Kind::ALL[self.rng.usize(..Kind::ALL.len())];
                self.controllers[c].list_anew(kind);
            }
            2 => self.machines[m].crash(),
            _ => {
                let containers = self.machines[m].containers.len().max(1);
                let index = self.rng.usize(..containers);
                self.machines[m].restart(index);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.time.pass(time);
        self.server.state().now = self.time.wall();
    }

    fn control(&mut self) {
        let index = self.rng.usize(..self.controllers.len());
        let controller = &mut self.controllers[index];
        match self.rng.u8(..3) {
            0 => {
                let news = controller.news();
                if !news.is_empty() {
                    controller.hear(news[self.rng.usize(..news.len())]);
                }
            }
            1 => {
                let startable = controller.startable();
                if !startable.is_empty() {
                    controller.begin(&startable[self.rng.usize(..startable.len())]);
                }
            }
            _ if controller.passes() > 0 => {
                let pass = self.rng.usize(..controller.passes());
                controller.go_on(pass);
            }
            _ => {}
        }
    }

    fn work(&mut self) {
        let index = self.rng.usize(..self.machines.len());
        let machine = &mut self.machines[index];
        match self.rng.u8(..3) {
            0 => {
                let news = machine.news();
                if !news.is_empty() {
                    machine.hear(news[self.rng.usize(..news.len())]);
                }
            }
            1 => {
                let startable = machine.startable();
                if !startable.is_empty() {
                    let killed = (self.rng.u8(..40) == 0).then(|| self.rng.usize(..3));
                    machine.pass(&startable[self.rng.usize(..startable.len())], killed);
                }
            }
            _ => {
                let chores = machine.chores();
                if !chores.is_empty() {
                    machine.chore(&chores[self.rng.usize(..chores.len())]);
                }
            }
        }
    }

    /// Everything that can be done now, in a fair order; answers whether anything was.
    fn round(&mut self) -> usize {
        let mut passes = 0;
        for controller in &mut self.controllers {
            for kind in controller.news() {
                controller.hear(kind);
                passes += 1;
            }
            for of in controller.startable() {
                controller.begin(&of);
                passes += 1;
            }
            for _ in 0..controller.passes() {
                controller.go_on(0);
            }
        }
        for machine in &mut self.machines {
            for kind in machine.news() {
                machine.hear(kind);
                passes += 1;
            }
            for key in machine.startable() {
                machine.pass(&key, None);
                passes += 1;
            }
            for key in machine.chores() {
                machine.chore(&key);
                passes += 1;
            }
        }
        passes + usize::from(self.server.state().collect_garbage(OTHERS))
    }

    fn busy(&self) -> bool {
        self.controllers.iter().any(|controller| controller.passes() > 0)
    }

    /// Lets everything come to rest for this long.
    ///
    /// # Errors
    /// When it doesn't, or a rule is broken on the way.
    pub fn settle(&mut self, time: Duration) -> Result<(), String> {
        let (end, mut passes) = (self.time.now() + time, 0);
        loop {
            let done = self.round();
            passes += done;
            self.check()?;
            if passes > MOST_PASSES {
                return Err("it never comes to rest".into());
            }
            if done > 0 || self.busy() {
                continue;
            }
            let controllers = self.controllers.iter().filter_map(Controller::next_due);
            let next = controllers.chain(self.machines.iter().filter_map(Machine::next_due)).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.wait(next.saturating_sub(self.time.now()).max(Duration::from_millis(1))),
                None => {
                    self.wait(end.saturating_sub(self.time.now()));
                    return Ok(());
                }
            }
        }
    }

    /// The rules that hold after every step.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        self.no_disk_in_two_pods()?;
        self.no_data_without_a_trace()?;
        self.nobodys_visit_is_forgotten()?;
        self.no_secret_in_an_object()
    }

    fn no_disk_in_two_pods(&self) -> Result<(), String> {
        let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
        for container in self.machines.iter().flat_map(|machine| machine.containers.values()) {
            if let Standing::Volume(uid) = &container.standing {
                *holders.entry(uid).or_default() += 1;
            }
        }
        match holders.into_iter().find(|(_, holders)| *holders > 1) {
            Some((uid, _)) => Err(format!("the disks of the Volume {uid} are in two pods")),
            None => Ok(()),
        }
    }

    fn no_data_without_a_trace(&self) -> Result<(), String> {
        let state = self.server.state();
        for machine in &self.machines {
            let lost = |uid: &&String| !machine.disks.contains_key(*uid) && !machine.trash.contains_key(*uid);
            if let Some(uid) = machine.made.iter().find(lost) {
                return Err(format!("the disks of {uid} were removed without a tombstone"));
            }
            let lives = |uid: &String| {
                state.volumes().find(|volume| {
                    volume.metadata.uid.as_ref() == Some(uid) && volume.metadata.deletion_timestamp.is_none()
                })
            };
            if let Some(volume) = machine.trash.keys().find_map(lives) {
                return Err(format!(
                    "the disks of {:?} are in the trash while it lives",
                    volume.metadata.name
                ));
            }
        }
        let owners: BTreeMap<_, _> =
            state.sparks().map(|spark| (spark.metadata.uid.as_deref(), spark)).collect();
        for volume in state.volumes().filter(|volume| volume.spec.trashed_at.is_some()) {
            let owner = volume.metadata.labels.as_ref().and_then(|l| l.get(labels::OWNER_UID));
            let Some(spark) = owner.and_then(|owner| owners.get(&Some(owner.as_str()))) else { continue };
            let status = spark.status.as_ref().and_then(|status| status.volume.as_ref());
            let told = status.is_some_and(|live| Some(&live.name) == volume.metadata.name.as_ref());
            if told && spark.spec.restore.is_none() {
                return Err(format!("the disks of the living Spark {:?} are trash", spark.metadata.name));
            }
        }
        Ok(())
    }

    fn nobodys_visit_is_forgotten(&self) -> Result<(), String> {
        let state = self.server.state();
        for spark in state.sparks() {
            let came = spark.metadata.uid.as_ref().and_then(|uid| self.seen.get(uid));
            let known =
                spark.status.as_ref().and_then(|status| status.last_activity_at.as_ref()).map(|t| t.0);
            if came.is_some() && known < came.copied() {
                return Err(format!("a visit of {:?} was overwritten", spark.metadata.name));
            }
        }
        Ok(())
    }

    fn no_secret_in_an_object(&self) -> Result<(), String> {
        let state = self.server.state();
        let clear = |volume: &&sparks_api::Volume| {
            let attachment = volume.spec.attachment.as_ref();
            attachment.and_then(|a| a.sealed_env.as_ref()).is_some_and(|env| env.contains(SECRET))
        };
        state
            .volumes()
            .find(clear)
            .map_or(Ok(()), |v| Err(format!("a secret stands in {:?}", v.metadata.name)))
    }

    /// The rules of rest: everything is as it was asked for, or says why not.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_rest(&self) -> Result<(), String> {
        let state = self.server.state();
        if let Some(object) = state.objects.values().find(|object| object.json().contains(SECRET)) {
            return Err(format!("a secret stands in {:?}", object.key()));
        }
        for spark in state.sparks() {
            self.spark_is_as_declared(&state, spark)
                .map_err(|what| format!("the Spark {:?} {what}", spark.metadata.name))?;
        }
        for volume in state.volumes() {
            let owner = volume.metadata.labels.as_ref().and_then(|l| l.get(labels::OWNER_UID)).cloned();
            if !state.objects.values().any(|object| object.meta().uid == owner) {
                return Err(format!("the Volume {:?} was left over", volume.metadata.name));
            }
        }
        let warm = state.pods().filter(|pod| pods::is_free(pod)).count();
        if state.quota.is_none() && warm != 2 * self.machines.len() {
            return Err(format!("{warm} pods are warm"));
        }
        Ok(())
    }

    fn spark_is_as_declared(&self, state: &crate::server::State, spark: &Spark) -> Result<(), String> {
        let status = spark.status.as_ref().ok_or("was never looked at")?;
        if status.observed_generation != spark.metadata.generation {
            return Err("has the status of an earlier spec".into());
        }
        let ready = conditions::find(&status.conditions, READY).ok_or("says nothing")?;
        let reason = Reason::from(ready.reason.as_str());
        let uid = spark.metadata.uid.as_deref().unwrap_or("");
        let is_mine = |pod: &&k8s_openapi::api::core::v1::Pod| {
            pod.metadata.labels.iter().flatten().any(|(k, v)| k == labels::SPARK_UID && v == uid)
        };
        let pods: Vec<_> = state.pods().filter(is_mine).collect();
        let excused = [
            Reason::SourceNotFound,
            Reason::SourceNotReady,
            Reason::SourceLost,
            Reason::SourceElsewhere,
            Reason::ApiRefused,
        ];
        if excused.contains(&reason) {
            return self.is_excused(state, spark, &reason);
        }
        if spark.spec.lifecycle.ttl.is_some() {
            return Err("has outlived its time".into());
        }
        if !spark.spec.lifecycle.running {
            return if reason == Reason::Stopped && pods.is_empty() {
                Ok(())
            } else {
                Err(format!("is not stopped: {reason}, {} pods", pods.len()))
            };
        }
        self.is_up(state, spark, &pods, &reason)
    }

    /// Who waits for a source must have one that is missing.
    fn is_excused(&self, state: &crate::server::State, spark: &Spark, reason: &Reason) -> Result<(), String> {
        let from = spark.spec.from.as_ref();
        let restore = spark.spec.restore.as_ref().map(|restore| &restore.checkpoint);
        let source = from.and_then(|from| from.spark.as_ref());
        let there = |kind, name: &String| state.objects.contains_key(&Self::key(kind, name));
        let made = spark.status.as_ref().is_some_and(|status| status.volume.is_some());
        let missing = !made && source.is_some_and(|name| !there(Kind::Spark, name));
        let unmade = !made && source.is_some_and(|name| !is_provisioned(state, name));
        let lost = restore.is_some();
        let refused = *reason == Reason::ApiRefused && state.quota.is_some();
        let right = missing || unmade || lost || refused || *reason == Reason::SourceLost;
        if right { Ok(()) } else { Err(format!("waits for nothing: {reason}")) }
    }

    fn is_up(
        &self,
        state: &crate::server::State,
        spark: &Spark,
        pods: &[&k8s_openapi::api::core::v1::Pod],
        reason: &Reason,
    ) -> Result<(), String> {
        let status = spark.status.as_ref().ok_or("was never looked at")?;
        if !status.is_up() {
            let words = conditions::find(&status.conditions, READY).map(|c| c.message.as_str());
            return Err(format!("is not up: {reason}: {words:?}"));
        }
        let [pod] = pods else { return Err(format!("has {} pods", pods.len())) };
        let live = status.volume.as_ref().map(|volume| volume.name.as_str());
        let volume = state.volumes().find(|v| v.metadata.name.as_deref() == live).ok_or("has no disks")?;
        let stands = Standing::Volume(uid(volume).into());
        let containers = self.machines.iter().flat_map(|machine| machine.containers.values());
        let mut mine = containers.filter(|container| Some(&container.pod_uid) == pod.metadata.uid.as_ref());
        if !mine.any(|container| container.standing == stands) {
            return Err("says that it is up, and its pod stands in something else".into());
        }
        if !state
            .objects
            .contains_key(&Self::key(Kind::Service, spark.metadata.name.as_deref().unwrap_or("")))
        {
            return Err("has no Service".into());
        }
        let wanted = spark.spec.resources.as_ref().map(|r| sparks_plan::resources::requirements(Some(r)));
        let size = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.resources.clone());
        match (wanted, size) {
            (Some(wanted), Some(size)) if !sparks_plan::resources::same(&wanted, &size) => {
                Err("has a pod of another size".into())
            }
            _ => Ok(()),
        }
    }
}

fn is_provisioned(state: &crate::server::State, spark: &str) -> bool {
    state.volumes().any(|volume| {
        let owner = volume.metadata.labels.as_ref().and_then(|labels| labels.get(labels::OWNER_NAME));
        let made = volume.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, PROVISIONED));
        owner.is_some_and(|owner| owner == spark) && made && volume.spec.trashed_at.is_none()
    })
}
