//! All Sparks as the API server shows them, and their waking.

mod activity;
mod error;
mod index;
mod keys;
mod state;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use kube::{Client, runtime::watcher::Event};
use sparks_api::Spark;
use tokio::sync::watch as latest;

use activity::{Activity, ApiWriter, WriteError, Writer};
pub use error::WakeError;
use index::Index;
pub use keys::{Entry, Fingerprint, Trust, fingerprint};
pub use state::{State, Wanted, is_of_a_pod, state};

/// Pause after a write that failed; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause after a write that failed.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Namespace and name of a Spark.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The Spark `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// A Spark with a pod to connect to.
#[derive(Clone, Debug)]
pub struct Awake {
    /// The Spark.
    pub spark: Arc<Spark>,
    /// Address of its pod.
    pub ip: IpAddr,
    /// Whether it slept, or was still starting, when it was asked for.
    pub woken: bool,
}

/// All Sparks as the API server shows them, and their waking. Clones share it.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    index: RwLock<Index>,
    filled: latest::Sender<bool>,
    waiters: Mutex<HashMap<Key, latest::Sender<()>>>,
    activity: Activity,
    wake_timeout: Duration,
}

impl Directory {
    /// Begins to watch all Sparks, on a task of its own.
    #[must_use]
    pub fn start(client: Client, wake_timeout: Duration) -> Self {
        let directory = Self::new(Arc::new(ApiWriter(client.clone())), wake_timeout);
        tokio::spawn(watch::watch(client, directory.clone()));
        directory
    }

    fn new(writer: Arc<dyn Writer>, wake_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            index: RwLock::default(),
            filled: latest::Sender::new(false),
            waiters: Mutex::default(),
            activity: Activity::new(writer),
            wake_timeout,
        }))
    }

    /// Waits until all Sparks are known.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, which this holds.
        let _ = self.0.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// A Spark by name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Spark>> {
        self.find(&Key::new(namespace, name))
    }

    /// A Spark by name, with the keys that may enter it.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<Entry> {
        self.index(|index| index.get(key).cloned())
    }

    /// Whether any Spark lets this key in, or the certificates that it signed.
    #[must_use]
    pub fn trusts(&self, key: &Fingerprint) -> Trust {
        self.index(|index| index.trusts(key))
    }

    /// All Sparks.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Spark>> {
        self.index(|index| index.all().map(|entry| entry.spark.clone()).collect())
    }

    /// Waits for a pod to connect to, and wakes the Spark for it. At most the wake timeout.
    ///
    /// # Errors
    /// [`WakeError`] when there will be none.
    pub async fn awake(&self, namespace: &str, name: &str) -> Result<Awake, WakeError> {
        self.wait(&Key::new(namespace, name), Wanted::Address).await
    }

    /// The same, until the Spark is Ready, so that its service answers.
    ///
    /// # Errors
    /// [`WakeError`] when it won't be.
    pub async fn serving(&self, namespace: &str, name: &str) -> Result<Awake, WakeError> {
        self.wait(&Key::new(namespace, name), Wanted::Ready).await
    }

    /// Records activity in the background, at most once per quarter of the idle timeout.
    pub fn active(&self, namespace: &str, name: &str) {
        let key = Key::new(namespace, name);
        let Some(spark) = self.find(&key) else { return };
        let now = state::moment(SystemTime::now(), None);
        let recorded = spark.status.as_ref().and_then(|status| status.last_activity_at.as_ref());
        let last = recorded.map(|at| at.0).max(self.0.activity.written(&key));
        let due = last.is_none_or(|last| now.duration_since(last).unsigned_abs() >= state::interval(&spark));
        if due && !self.0.activity.writing(&key) {
            drop(self.0.activity.write(&key, now));
        }
    }

    fn find(&self, key: &Key) -> Option<Arc<Spark>> {
        self.index(|index| index.get(key).map(|entry| entry.spark.clone()))
    }

    fn index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.0.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn wait(&self, key: &Key, wanted: Wanted) -> Result<Awake, WakeError> {
        let mut changes = self.changes(key);
        let mut wait = Wait { directory: self, key, last: String::new(), pause: FIRST_PAUSE };
        let awake = wait.until(wanted, &mut changes);
        let result = tokio::time::timeout(self.0.wake_timeout, awake).await;
        let message = std::mem::take(&mut wait.last);
        drop(changes);
        self.tidy(key);
        result.unwrap_or_else(|_| {
            Err(WakeError::Timeout { spark: key.to_string(), waited: self.0.wake_timeout, message })
        })
    }

    /// Told of every change of one Spark from now on.
    fn changes(&self, key: &Key) -> latest::Receiver<()> {
        let mut waiters = self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.entry(key.clone()).or_default().subscribe()
    }

    fn tidy(&self, key: &Key) {
        let mut waiters = self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.get(key).is_some_and(|sender| sender.receiver_count() == 0) {
            waiters.remove(key);
        }
    }

    fn touched(&self, key: Option<&Key>) {
        let waiters = self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        match key {
            Some(key) => waiters.get(key).into_iter().for_each(|waiter| waiter.send_replace(())),
            None => waiters.values().for_each(|waiter| waiter.send_replace(())),
        }
    }

    /// Takes over what the watch has seen.
    fn observe(&self, event: Event<Spark>) {
        let mut index = self.0.index.write().unwrap_or_else(PoisonError::into_inner);
        let (touched, gone) = match event {
            Event::Init => return index.begin(),
            Event::InitApply(spark) => return index.list(spark),
            Event::InitDone => (None, index.finish()),
            Event::Apply(spark) => (Some(index.apply(spark)), Vec::new()),
            Event::Delete(spark) => {
                let key = index.delete(&spark);
                (Some(key.clone()), vec![key])
            }
        };
        drop(index);
        gone.iter().for_each(|key| self.0.activity.forget(key));
        self.touched(touched.as_ref());
        if touched.is_none() {
            self.0.filled.send_replace(true);
        }
    }
}

/// One visitor's wait.
struct Wait<'a> {
    directory: &'a Directory,
    key: &'a Key,
    /// What the Spark was doing, for the message of a timeout.
    last: String,
    pause: Duration,
}

impl Wait<'_> {
    async fn until(
        &mut self,
        wanted: Wanted,
        changes: &mut latest::Receiver<()>,
    ) -> Result<Awake, WakeError> {
        let mut woken = false;
        loop {
            changes.mark_unchanged();
            let spark = self.directory.find(self.key).ok_or_else(|| self.unknown())?;
            match state(&spark, wanted) {
                State::Up(ip) => return Ok(Awake { spark, ip, woken }),
                State::Astray(address) => return Err(self.astray(address)),
                State::Stopped => return Err(self.stopped()),
                State::Failed(message) => {
                    return Err(WakeError::Failed { spark: self.key.to_string(), message });
                }
                State::Ending => return Err(self.unknown()),
                State::Starting(message) => self.last = message,
                State::Asleep(since) => self.wake(since).await?,
            }
            woken = true;
            // An error would mean that the sender is gone, which the directory keeps while there are receivers.
            let _ = changes.changed().await;
        }
    }

    /// Makes sure that activity after `since` is recorded, trying until it is.
    async fn wake(&mut self, since: Timestamp) -> Result<(), WakeError> {
        let activity = &self.directory.0.activity;
        self.last = "it is being woken".into();
        while activity.written(self.key).is_none_or(|written| written < since) {
            match activity.write(self.key, state::moment(SystemTime::now(), Some(since))).await {
                Ok(()) => {}
                Err(WriteError::Gone) => return Err(self.unknown()),
                Err(WriteError::Refused(message)) => {
                    tracing::warn!(spark = %self.key, message, "a Spark could not be woken; it is tried again");
                    self.last = format!("it could not be woken: {message}");
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LAST_PAUSE);
                }
            }
        }
        Ok(())
    }

    fn unknown(&self) -> WakeError {
        WakeError::Unknown { spark: self.key.to_string() }
    }

    fn astray(&self, address: IpAddr) -> WakeError {
        tracing::warn!(spark = %self.key, %address, "its status has an address that no pod can have; it is not connected to");
        WakeError::Astray { spark: self.key.to_string(), address }
    }

    fn stopped(&self) -> WakeError {
        WakeError::Stopped { name: self.key.name.clone(), namespace: self.key.namespace.clone() }
    }
}
