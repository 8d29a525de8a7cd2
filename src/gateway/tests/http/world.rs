//! A gateway, the Sparks that it knows, and their keys.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus_client::{encoding::text::encode, registry::Registry};
use spark_client::access::{Key, Scope};
use sparks_api::{
    Reason, SSH_PORT, Spark, SparkSpec, SparkStatus,
    conditions::{READY, condition},
};
use sparks_gateway::{
    directory::{Awake, WakeError},
    http::{Computers, Flags, Found, Keys, Metrics, Sessions, Setup, Ssh},
    ssh,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub const DOMAIN: &str = "sparks.example.com";
pub const NAMESPACE: &str = "team";

/// A gateway that serves, and what it serves from.
pub struct World {
    pub address: SocketAddr,
    pub sparks: Arc<Sparks>,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
    registry: Registry,
}

/// The Sparks that there are.
#[derive(Default)]
pub struct Sparks {
    all: Mutex<HashMap<String, Entry>>,
    pub waits: AtomicUsize,
    pub active: AtomicUsize,
    /// The port to which the next Spark that is asked for moves as soon as somebody was told where it is.
    pub moving: Mutex<Option<u16>>,
}

struct Entry {
    spark: Arc<Spark>,
    state: watch::Sender<State>,
}

#[derive(Clone)]
pub enum State {
    Up,
    /// It has a pod and is not Ready.
    Starting,
    Asleep,
    Down(WakeError),
}

impl Sparks {
    /// Adds a Spark, or changes it.
    pub fn put(&self, name: &str, public: bool, port: u16, state: State) {
        let mut spark = Spark::new(name, SparkSpec::default());
        spark.metadata.namespace = Some(NAMESPACE.into());
        spark.metadata.uid = Some(format!("uid of {name}"));
        let since = Timestamp::UNIX_EPOCH;
        spark.status = Some(SparkStatus {
            public,
            address: Some(format!("{name}.{NAMESPACE}.svc:{port}")),
            conditions: vec![condition(READY, true, Reason::Running, "", None, since)],
            ..Default::default()
        });
        let entry = Entry { spark: Arc::new(spark), state: watch::Sender::new(state) };
        self.all.lock().unwrap().insert(format!("{NAMESPACE}/{name}"), entry);
    }

    pub fn set(&self, name: &str, state: State) {
        self.all.lock().unwrap()[&format!("{NAMESPACE}/{name}")].state.send_replace(state);
    }

    /// Changes what there is to know of a Spark.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Spark)) {
        let mut all = self.all.lock().unwrap();
        change(Arc::make_mut(&mut all.get_mut(&format!("{NAMESPACE}/{name}")).unwrap().spark));
    }

    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    pub fn waits(&self) -> usize {
        self.waits.load(Ordering::SeqCst)
    }

    async fn wait(
        &self,
        namespace: &str,
        name: &str,
        is_enough: impl FnMut(&State) -> bool,
    ) -> Result<Awake, WakeError> {
        let id = format!("{namespace}/{name}");
        let unknown = || WakeError::Unknown { spark: format!("{name}.{namespace}") };
        let receiver = self.all.lock().unwrap().get(&id).map(|entry| entry.state.subscribe());
        let mut receiver = receiver.ok_or_else(unknown)?;
        let woken = matches!(*receiver.borrow(), State::Asleep);
        self.waits.fetch_add(1, Ordering::SeqCst);
        let state = receiver.wait_for(is_enough).await.unwrap().clone();
        match state {
            State::Down(why) => Err(why),
            State::Up | State::Starting | State::Asleep => {
                let spark = self.all.lock().unwrap()[&id].spark.clone();
                if let Some(port) = self.moving.lock().unwrap().take() {
                    self.put(name, spark.status.as_ref().unwrap().public, port, State::Up);
                }
                Ok(Awake { spark, ip: [127, 0, 0, 1].into(), woken })
            }
        }
    }
}

impl Computers for Sparks {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Spark>> {
        self.all.lock().unwrap().get(&format!("{namespace}/{name}")).map(|entry| entry.spark.clone())
    }

    fn awake<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>> {
        Box::pin(self.wait(namespace, name, |state| !matches!(state, State::Asleep)))
    }

    fn serving<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>> {
        Box::pin(self.wait(namespace, name, |state| !matches!(state, State::Asleep | State::Starting)))
    }

    fn active(&self, _: &str, _: &str) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }
}

/// `team` has a key; so has `other`, another one; no other namespace has any.
pub struct FixedKeys;

impl Keys for FixedKeys {
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
        let key = key(namespace).map(Arc::new);
        Box::pin(async move { Ok(key) })
    }
}

pub fn key(namespace: &str) -> Option<Key> {
    let byte = match namespace {
        NAMESPACE => 1,
        "other" => 2,
        _ => return None,
    };
    Some(Key::new(&[byte; 32]).unwrap())
}

pub fn hour() -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_hours(1)
}

/// A token of the right key.
pub fn token(scope: &Scope) -> String {
    key(NAMESPACE).unwrap().mint(scope, hour())
}

/// A token for the Spark `api`.
pub fn good_token() -> String {
    token(&Scope::spark(NAMESPACE, "api"))
}

pub fn host(name: &str) -> String {
    format!("{name}--{NAMESPACE}.{DOMAIN}")
}

impl World {
    pub async fn new() -> Self {
        Self::with(Flags { http_websockets_by_http2: true, ..Flags::default() }, None).await
    }

    pub async fn with(flags: Flags, sessions: Option<Sessions>) -> Self {
        Self::start(flags, sessions, SSH_PORT).await
    }

    /// A gateway and the private Spark `api`, whose guest listens on this port and whose service on none.
    pub async fn ssh(port: u16, flags: Flags) -> Self {
        let world = Self::start(flags, None, port).await;
        world.sparks.put("api", false, 1, State::Up);
        world
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    async fn start(flags: Flags, sessions: Option<Sessions>, ssh_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sparks, stop) = (Arc::<Sparks>::default(), CancellationToken::new());
        let mut registry = Registry::default();
        let setup = Setup {
            domain: DOMAIN.into(),
            flags,
            computers: sparks.clone(),
            keys: Arc::new(FixedKeys),
            sessions,
            metrics: Metrics::new(&mut registry),
            ssh: Ssh { port: ssh_port, metrics: ssh::Metrics::new(&mut registry) },
        };
        let served = tokio::spawn(setup.serve(listener, stop.clone()));
        Self { address, sparks, stop, served, registry }
    }

    /// A gateway and the public Spark `api`, whose service listens on this port.
    pub async fn serving(port: u16) -> Self {
        let world = Self::new().await;
        world.sparks.put("api", true, port, State::Up);
        world
    }
}
