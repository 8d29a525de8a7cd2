//! One controller: the real index, plans and driver, played step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use sparks_api::{NamespacedName, ObjectId};
use sparks_controller::{
    context::{Clock, Context},
    kinds,
    metrics::Metrics,
    ssh,
};
use sparks_ops::queue::Again;
use sparks_plan::{
    index::Reference,
    known::Known,
    memory::Memory,
    pods::Template,
    stored::Stored,
    world::{Now, Settings},
};

use crate::{
    api::Turns,
    fault::Fault,
    server::{Kind, News, Object, Server},
};

/// Until when trash is kept.
pub const RETENTION: Duration = Duration::from_secs(3600);

/// Time that goes by when the history says so.
#[derive(Clone, Default)]
pub struct Time(Arc<Mutex<Duration>>);

impl Time {
    /// Since the beginning.
    pub fn now(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on.
    pub fn pass(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// On the wall.
    pub fn wall(&self) -> Timestamp {
        let since = jiff::SignedDuration::try_from(self.now()).unwrap_or_default();
        Timestamp::from_second(1_800_000_000).and_then(|t| t.checked_add(since)).unwrap_or(Timestamp::MAX)
    }
}

impl Clock for Time {
    fn now(&self) -> Now {
        Now { wall: self.wall(), steady: Self::now(self) }
    }
}

struct Running {
    of: Reference,
    pass: BoxFuture<'static, Again>,
}

/// One controller.
pub struct Controller {
    watcher: usize,
    server: Server,
    time: Time,
    context: Arc<Context>,
    turns: Arc<Turns>,
    dirty: BTreeSet<Reference>,
    due: BTreeMap<Reference, Duration>,
    failures: BTreeMap<Reference, u32>,
    running: Vec<Running>,
}

impl Controller {
    /// One that has just started, and listed everything.
    pub fn new(who: usize, server: &Server, time: &Time) -> Self {
        let turns = Arc::new(Turns { server: server.clone(), who, turns: 0.into() });
        let watcher = server.state().watcher();
        let mut new = Self {
            watcher,
            server: server.clone(),
            time: time.clone(),
            context: Arc::new(context(turns.clone(), time)),
            turns,
            dirty: BTreeSet::new(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
            running: Vec::new(),
        };
        Kind::ALL.iter().for_each(|kind| new.list_anew(*kind));
        new
    }

    /// It is killed, between any two writes, and starts again.
    pub fn crash(&mut self) {
        self.running.clear();
        let context = Arc::new(context(self.turns.clone(), &self.time));
        (self.context, self.dirty, self.due, self.failures) =
            (context, BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Kind::ALL.iter().for_each(|kind| self.list_anew(*kind));
    }

    /// Its watch of this kind broke, and what came meanwhile is only in a new list.
    pub fn list_anew(&mut self, kind: Kind) {
        let list = {
            let mut state = self.server.state();
            if let Some(news) = state.news.get_mut(self.watcher) {
                news.remove(&kind);
            }
            state.list(kind)
        };
        let touched = self.replace(kind, list);
        self.touch(kind, touched);
    }

    /// Kinds of which there is news.
    pub fn news(&self) -> Vec<Kind> {
        let state = self.server.state();
        let news = state.news.get(self.watcher).into_iter().flatten();
        news.filter(|(_, news)| !news.is_empty()).map(|(kind, _)| *kind).collect()
    }

    /// Takes in one piece of news.
    pub fn hear(&mut self, kind: Kind) {
        let news = {
            let mut state = self.server.state();
            state.news.get_mut(self.watcher).and_then(|news| news.get_mut(&kind)?.pop_front())
        };
        let Some(news) = news else { return };
        let touched = learn(&self.context, news);
        self.touch(kind, touched);
    }

    fn touch(&mut self, kind: Kind, touched: Vec<Reference>) {
        let deaf = match self.server.state().fault {
            Some(Fault::SparkNewsTouchNobody) => Some(Kind::Spark),
            Some(Fault::CheckpointNewsTouchNobody) => Some(Kind::Checkpoint),
            Some(Fault::VolumeNewsTouchNobody) => Some(Kind::Volume),
            Some(Fault::PodNewsTouchNobody) => Some(Kind::Pod),
            Some(Fault::AgentNewsTouchNobody) => Some(Kind::Agent),
            _ => None,
        };
        if deaf != Some(kind) {
            self.dirty.extend(touched);
        }
    }

    /// What can be begun: nothing goes on with it, and it did not fail just now.
    pub fn startable(&self) -> Vec<Reference> {
        let now = self.time.now();
        let idle = |of: &&Reference| self.running.iter().all(|running| running.of != **of);
        let waits = |of: &&Reference| {
            !self.failures.contains_key(*of) || self.due.get(*of).is_none_or(|due| *due <= now)
        };
        let due = self.due.iter().filter(|(_, at)| **at <= now).map(|(of, _)| of);
        let dirty = self.dirty.iter().filter(waits);
        dirty.chain(due).filter(idle).cloned().collect()
    }

    /// Passes that go on.
    pub fn passes(&self) -> usize {
        self.running.len()
    }

    /// When the next look is due.
    pub fn next_due(&self) -> Option<Duration> {
        let running = |of: &Reference| self.running.iter().any(|running| running.of == *of);
        self.due.iter().filter(|(of, _)| !running(of)).map(|(_, at)| *at).min()
    }

    /// Begins a pass: it looks and plans now.
    pub fn begin(&mut self, of: &Reference) {
        self.dirty.remove(of);
        self.due.remove(of);
        let kinds = kinds::reconciled();
        let Some(kind) = kinds.iter().find(|kind| kind.kind == of.kind) else { return };
        let pass = (kind.pass)(self.context.clone(), of.name.clone());
        self.running.push(Running { of: of.clone(), pass });
        let last = self.running.len() - 1;
        self.step(last, 0);
    }

    /// Lets a pass carry out one call.
    pub fn go_on(&mut self, index: usize) {
        self.step(index, 1);
    }

    fn step(&mut self, index: usize, turns: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        self.turns.turns.store(turns, Relaxed);
        let Some(running) = self.running.get_mut(index) else { return };
        let polled = running.pass.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        self.turns.turns.store(0, Relaxed);
        if let Poll::Ready(again) = polled {
            let of = self.running.swap_remove(index).of;
            self.ended(of, again);
        }
    }

    fn ended(&mut self, of: Reference, again: Again) {
        let fault = self.server.state().fault;
        let pause = match again {
            Again::Backoff => {
                let failures = self.failures.entry(of.clone()).or_default();
                *failures += 1;
                Some(Duration::from_millis(100 << (*failures).min(9)))
            }
            Again::OnChange => None,
            Again::After(_) if fault == Some(Fault::NobodyIsLookedAtAgain) => None,
            Again::After(pause) => Some(pause),
        };
        let pause = pause.map(|pause| {
            if fault == Some(Fault::RefusedWritesAreRepeatedAtOnce) && again == Again::Backoff {
                Duration::ZERO
            } else {
                pause
            }
        });
        if again != Again::Backoff {
            self.failures.remove(&of);
        }
        if let Some(pause) = pause {
            self.due.insert(of, self.time.now() + pause);
        }
    }

    fn replace(&self, kind: Kind, list: Vec<Object>) -> Vec<Reference> {
        fn all<S: Stored>(context: &Context, list: Vec<S::Wire>) -> Vec<Reference> {
            let known = list.into_iter().filter_map(|wire| {
                let id = ObjectId::of(&wire).ok()?;
                Some(Known::new(id, S::admit(wire)?))
            });
            let known = known.collect();
            context.learn(|index, memory, now| index.replace::<S>(known, memory, now))
        }
        macro_rules! of {
            ($($kind:ident => $stored:ty),+) => {
                match kind {
                    $(Kind::$kind => {
                        let list = list.into_iter().filter_map(|object| match object {
                            Object::$kind(it) => Some(*it),
                            _ => None,
                        });
                        all::<$stored>(&self.context, list.collect())
                    })+
                }
            };
        }
        of!(Spark => sparks_api::Spark, Checkpoint => sparks_api::Checkpoint, Pool => sparks_api::SparkPool,
            Volume => sparks_api::Volume, Pod => k8s_openapi::api::core::v1::Pod, Agent => sparks_plan::placement::Agent,
            Node => sparks_plan::watched::NodeFacts, Service => k8s_openapi::api::core::v1::Service)
    }
}

fn learn(context: &Context, news: News) -> Vec<Reference> {
    fn one<S: Stored>(context: &Context, name: &NamespacedName, wire: Option<S::Wire>) -> Vec<Reference> {
        let known = wire.and_then(|wire| {
            let id = ObjectId::of(&wire).ok()?;
            Some(Known::new(id, S::admit(wire)?))
        });
        context.learn(|index, memory, now| match known {
            Some(known) => index.put(known, memory, now),
            None => index.remove::<S>(name, memory, now),
        })
    }
    let name = NamespacedName::new(&news.key.1, &news.key.2);
    macro_rules! of {
        ($($kind:ident => $stored:ty),+) => {
            match news.key.0 {
                $(Kind::$kind => one::<$stored>(context, &name, match news.object {
                    Some(Object::$kind(it)) => Some(*it),
                    _ => None,
                }),)+
            }
        };
    }
    of!(Spark => sparks_api::Spark, Checkpoint => sparks_api::Checkpoint, Pool => sparks_api::SparkPool,
        Volume => sparks_api::Volume, Pod => k8s_openapi::api::core::v1::Pod, Agent => sparks_plan::placement::Agent,
        Node => sparks_plan::watched::NodeFacts, Service => k8s_openapi::api::core::v1::Service)
}

fn context(turns: Arc<Turns>, time: &Time) -> Context {
    let template = Template { guest_image: "guest".into() };
    Context {
        api: turns,
        index: Default::default(),
        memory: Memory::default(),
        settings: Settings { template, retention: RETENTION },
        clock: Box::new(time.clone()),
        metrics: Metrics::new(&mut Registry::default()),
        beliefs: Default::default(),
        installation: ssh::Installation::new(ssh::Keys::new([7; 32], "ssh-ed25519 AAAA gateway".into())),
        key_sources: Default::default(),
    }
}
