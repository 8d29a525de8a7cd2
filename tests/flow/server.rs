//! An API server in memory: versions, conflicts, finalizers, and watches whose news arrive late.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, Service},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use sparks_api::{Checkpoint, Spark, SparkPool, Volume};

use crate::fault::Fault;

/// An object of any kind that is watched.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    Spark(Box<Spark>),
    Checkpoint(Box<Checkpoint>),
    Pool(Box<SparkPool>),
    Volume(Box<Volume>),
    Pod(Box<Pod>),
    Agent(Box<Pod>),
    Node(Box<Node>),
    Service(Box<Service>),
}

/// Kinds, in the order of their watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Spark,
    Checkpoint,
    Pool,
    Volume,
    Pod,
    Agent,
    Node,
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Spark,
        Self::Checkpoint,
        Self::Pool,
        Self::Volume,
        Self::Pod,
        Self::Agent,
        Self::Node,
        Self::Service,
    ];
}

macro_rules! every {
    ($object:expr, $it:ident => $answer:expr) => {
        match $object {
            Object::Spark($it) => $answer,
            Object::Checkpoint($it) => $answer,
            Object::Pool($it) => $answer,
            Object::Volume($it) => $answer,
            Object::Pod($it) | Object::Agent($it) => $answer,
            Object::Node($it) => $answer,
            Object::Service($it) => $answer,
        }
    };
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Spark(_) => Kind::Spark,
            Self::Checkpoint(_) => Kind::Checkpoint,
            Self::Pool(_) => Kind::Pool,
            Self::Volume(_) => Kind::Volume,
            Self::Pod(_) => Kind::Pod,
            Self::Agent(_) => Kind::Agent,
            Self::Node(_) => Kind::Node,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &ObjectMeta {
        every!(self, it => &it.metadata)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        every!(self, it => &mut it.metadata)
    }

    /// As JSON.
    pub fn json(&self) -> String {
        every!(self, it => serde_json::to_string(it).unwrap_or_default())
    }

    /// Its namespace and name.
    pub fn key(&self) -> Key {
        let meta = self.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (self.kind(), text(&meta.namespace), text(&meta.name))
    }
}

/// Kind, namespace and name.
pub type Key = (Kind, String, String);

/// One piece of news.
#[derive(Clone, Debug)]
pub struct News {
    /// Of which object.
    pub key: Key,
    /// As it is; none once it is gone.
    pub object: Option<Object>,
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Refusal {
    Gone,
    Exists,
    Conflict,
    Forbidden(String),
}

/// All that is stored, and who watches it.
#[derive(Default)]
pub struct State {
    /// The objects.
    pub objects: BTreeMap<Key, Object>,
    version: u64,
    /// News of each watcher that it has not taken in, by kind.
    pub news: Vec<BTreeMap<Kind, VecDeque<News>>>,
    /// Every write, in order: who, what.
    pub writes: Vec<(usize, String)>,
    /// The wall clock.
    pub now: Timestamp,
    /// What is wrong on purpose.
    pub fault: Option<Fault>,
    /// Most pods that may be there.
    pub quota: Option<usize>,
}

/// The server; clones share it.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    /// A look at it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A new watcher, which knows nothing yet.
    pub fn watcher(&mut self) -> usize {
        self.news.push(BTreeMap::new());
        self.news.len() - 1
    }

    fn tell(&mut self, key: Key, object: Option<Object>) {
        for news in &mut self.news {
            let news = news.entry(key.0).or_default();
            news.push_back(News { key: key.clone(), object: object.clone() });
        }
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn store(&mut self, mut object: Object) {
        object.meta_mut().resource_version = Some(self.next().to_string());
        let key = object.key();
        self.objects.insert(key.clone(), object.clone());
        self.tell(key, Some(object));
    }

    /// Makes an object.
    pub fn create(&mut self, who: usize, mut object: Object) -> Result<String, Refusal> {
        let (number, now) = (self.next(), self.now);
        if let (Kind::Pod, Some(most)) = (object.kind(), self.quota)
            && self.objects.keys().filter(|key| key.0 == Kind::Pod).count() >= most
        {
            let words = format!("pods \"p-{number}\" is forbidden: exceeded quota: pods, used: {most}");
            return Err(Refusal::Forbidden(words));
        }
        let meta = object.meta_mut();
        if let Some(prefix) = meta.generate_name.take() {
            meta.name = Some(format!("{prefix}{number}"));
        }
        meta.uid.get_or_insert(format!("uid-{number}"));
        meta.generation = Some(1);
        meta.creation_timestamp = Some(Time(now));
        let key = object.key();
        if self.objects.contains_key(&key) {
            return Err(Refusal::Exists);
        }
        self.writes.push((who, format!("create {:?} {}", key.0, key.2)));
        self.store(object);
        Ok(key.2)
    }

    /// The object of this name, if it is the one with this uid.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// Replaces an object; `version` is the one in which it was read, if that counts.
    pub fn update(
        &mut self,
        who: usize,
        what: &str,
        key: &Key,
        version: Option<&str>,
        change: impl FnOnce(&mut Object),
    ) -> Result<(), Refusal> {
        let Some(old) = self.objects.get(key) else { return Err(Refusal::Gone) };
        let stale = version.is_some() && old.meta().resource_version.as_deref() != version;
        if stale && self.fault != Some(Fault::ConflictsAreIgnored) {
            return Err(Refusal::Conflict);
        }
        let mut new = old.clone();
        change(&mut new);
        if new == *old {
            return Ok(());
        }
        self.writes.push((who, format!("{what} {:?} {}", key.0, key.2)));
        if new.meta().deletion_timestamp.is_some() && new.meta().finalizers.iter().flatten().count() == 0 {
            let ends = key.0 != Kind::Pod;
            if ends {
                self.drop_object(key);
                return Ok(());
            }
        }
        self.store(new);
        Ok(())
    }

    /// Deletes an object: at once, or after its finalizers and containers.
    pub fn delete(
        &mut self,
        who: usize,
        key: &Key,
        uid: Option<&str>,
        version: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(old) = self.objects.get(key) else { return Err(Refusal::Gone) };
        let meta = old.meta();
        let other = uid.is_some() && meta.uid.as_deref() != uid;
        if other || version.is_some() && meta.resource_version.as_deref() != version {
            return Err(Refusal::Conflict);
        }
        self.writes.push((who, format!("delete {:?} {}", key.0, key.2)));
        let bound =
            matches!(old, Object::Pod(pod) if pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()));
        if bound || meta.finalizers.iter().flatten().count() > 0 {
            let mut going = old.clone();
            let now = self.now;
            going.meta_mut().deletion_timestamp.get_or_insert(Time(now));
            self.store(going);
        } else {
            self.drop_object(key);
        }
        Ok(())
    }

    /// The object is gone.
    pub fn drop_object(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.tell(key.clone(), None);
        }
    }

    /// Deletes whatever belongs to an object that is gone, as the garbage collector does.
    pub fn collect_garbage(&mut self, who: usize) -> bool {
        let alive: std::collections::HashSet<_> =
            self.objects.values().filter_map(|object| object.meta().uid.clone()).collect();
        let orphan = self.objects.values().find(|object| {
            let meta = object.meta();
            let mut owners = meta.owner_references.iter().flatten().peekable();
            meta.deletion_timestamp.is_none()
                && owners.peek().is_some()
                && owners.all(|owner| !alive.contains(&owner.uid))
        });
        let Some(key) = orphan.map(Object::key) else { return false };
        self.delete(who, &key, None, None).is_ok()
    }

    /// All of a kind.
    pub fn list(&self, kind: Kind) -> Vec<Object> {
        self.objects.values().filter(|object| object.kind() == kind).cloned().collect()
    }

    /// All Volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.objects.values().filter_map(|object| match object {
            Object::Volume(volume) => Some(&**volume),
            _ => None,
        })
    }

    /// All Sparks.
    pub fn sparks(&self) -> impl Iterator<Item = &Spark> {
        self.objects.values().filter_map(|object| match object {
            Object::Spark(spark) => Some(&**spark),
            _ => None,
        })
    }

    /// All pods but the agents'.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.objects.values().filter_map(|object| match object {
            Object::Pod(pod) => Some(&**pod),
            _ => None,
        })
    }
}
