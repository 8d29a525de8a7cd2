//! The access keys of namespaces, kept for a short while.
//!
//! Strangers choose which namespaces are asked for, and each that is new costs a read. So there are two lanes: a key that is
//! known is renewed while it is used, in a lane where only namespaces wait that have one; all other reads have a budget of
//! their own, and whoever comes when it is spent is told to try again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use spark_client::access::{Key, SECRET};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

/// How long a key is used that was not read again: so long does a revoked one go on to work.
const KEPT: Duration = Duration::from_secs(30);
/// After this it is read again while it is used, so that where somebody comes often, nobody waits for that.
const RENEWED: Duration = Duration::from_secs(20);
/// How long it is remembered that there is none: so long does a visitor wait who came before the key was made.
const MISSED: Duration = Duration::from_secs(2);
/// How long a key is not read again though it did not sign what somebody shows, who may have made that up.
const TRUSTED: Duration = Duration::from_secs(2);
/// How long an old key is used while the API server doesn't answer,
const STALE: Duration = Duration::from_secs(600);
/// which is given so long,
const READ_WITHIN: Duration = Duration::from_secs(5);
/// and is then not asked again for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// How long it is remembered that a namespace has a key, which is then read as one that is known.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// From so many namespaces on those are forgotten of which nothing is known any more.
const MANY: usize = 4096;
/// Known keys that are read at the same time.
const RENEWALS: usize = 16;
/// Other reads at the same time, and how long each counts at least: strangers can make the gateway read 100 per second.
const READS: usize = 64;
const READ_COUNTS: Duration = Duration::from_millis(640);

/// The key can't be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access key of namespace {namespace} can't be read: {message}")]
pub struct Unavailable {
    /// The namespace.
    pub namespace: String,
    /// What the API server said.
    pub message: String,
}

impl Unavailable {
    fn new(namespace: &str, message: impl ToString) -> Self {
        Self { namespace: namespace.into(), message: message.to_string() }
    }
}

/// A key, or nothing when the namespace has none.
pub type Found = Result<Option<Arc<Key>>, Unavailable>;

/// Where keys come from.
pub trait Keys: Send + Sync + 'static {
    /// The key of a namespace.
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found>;
    /// The key that is there instead of one that signed nothing of what is shown: somebody may just have replaced it.
    fn key_after<'a>(&'a self, namespace: &'a str, _old: &'a Arc<Key>) -> BoxFuture<'a, Found> {
        self.key(namespace)
    }
}

/// Reads the Secret of each namespace from the API server.
pub struct Secrets(pub Client);

impl Keys for Secrets {
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let api = Api::<Secret>::namespaced(self.0.clone(), namespace);
            let secret = api.get_opt(SECRET).await.map_err(|error| Unavailable::new(namespace, error))?;
            let Some(secret) = secret else { return Ok(None) };
            match Key::of(&secret) {
                Ok(key) => Ok(Some(Arc::new(key))),
                Err(why) => {
                    tracing::warn!(namespace, %why, "the Secret {SECRET} can't be used");
                    Ok(None)
                }
            }
        })
    }
}

/// Remembers keys for a short while. All who ask for one at the same time share a read.
pub struct Kept<K>(Arc<Inner<K>>);

struct Inner<K> {
    keys: K,
    kept: Mutex<HashMap<String, Entry>>,
    renewals: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// A read, which goes on though nobody waits for it.
#[derive(Clone)]
struct Reading {
    found: Shared<BoxFuture<'static, Found>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Entry {
    known: Option<Known>,
    reading: Option<Reading>,
}

#[derive(Clone)]
struct Known {
    key: Option<Arc<Key>>,
    since: Instant,
    /// When it could not be read again.
    failed: Option<Instant>,
}

/// What somebody gets who asks for a key.
enum Look {
    Known(Option<Arc<Key>>),
    /// The last one is too old, and good enough only if there is no other.
    Renewing(Reading, Option<Arc<Key>>),
    Reading(Reading),
}

/// A read's right to begin.
enum Turn {
    Renewal,
    Read(OwnedSemaphorePermit),
}

impl Known {
    fn is_remembered(&self) -> bool {
        self.since.elapsed() < if self.key.is_some() { REMEMBERED } else { MISSED }
    }

    fn is_usable(&self) -> bool {
        self.key.is_none() || self.since.elapsed() < STALE
    }

    fn has_just_failed(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < PAUSE)
    }

    fn is_due(&self) -> bool {
        self.key.is_some() && self.since.elapsed() >= RENEWED && !self.has_just_failed()
    }

    fn is_too_old(&self) -> bool {
        self.key.is_some() && self.since.elapsed() >= KEPT && self.failed.is_none()
    }
}

impl Entry {
    fn known(&self) -> Option<&Known> {
        self.known.as_ref().filter(|known| known.is_remembered())
    }

    fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref().filter(|reading| !reading.task.is_finished())
    }
}

impl<K: Keys> Kept<K> {
    /// Remembers what `keys` finds.
    pub fn new(keys: K) -> Self {
        let (renewals, reads) = (Arc::new(Semaphore::new(RENEWALS)), Arc::new(Semaphore::new(READS)));
        Self(Arc::new(Inner { keys, kept: Mutex::default(), renewals, reads }))
    }
}

impl<K: Keys> Inner<K> {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(self: &Arc<Self>, namespace: &str) -> Result<Look, Unavailable> {
        let mut kept = self.kept();
        let Some(known) = kept.get(namespace).and_then(Entry::known).cloned() else {
            return self.first(&mut kept, namespace).map(Look::Reading);
        };
        let entry = kept.entry(namespace.into()).or_default();
        if !known.is_usable() {
            return Ok(Look::Reading(self.reading(entry, namespace, Turn::Renewal)));
        }
        let reading = known.is_due().then(|| self.reading(entry, namespace, Turn::Renewal));
        Ok(match reading {
            Some(reading) if known.is_too_old() => Look::Renewing(reading, known.key),
            _ => Look::Known(known.key),
        })
    }

    /// The read of a namespace of which nothing is known.
    fn first(
        self: &Arc<Self>,
        kept: &mut HashMap<String, Entry>,
        namespace: &str,
    ) -> Result<Reading, Unavailable> {
        if let Some(reading) = kept.get(namespace).and_then(Entry::reading) {
            return Ok(reading.clone());
        }
        let spent =
            |_| Unavailable::new(namespace, "too many others are asked for that are not known either");
        let turn = self.reads.clone().try_acquire_owned().map(Turn::Read).map_err(spent)?;
        if kept.len() >= MANY {
            kept.retain(|_, entry| entry.known().is_some() || entry.reading().is_some());
        }
        Ok(self.reading(kept.entry(namespace.into()).or_default(), namespace, turn))
    }

    /// The read that goes on, or a new one.
    fn reading(self: &Arc<Self>, entry: &mut Entry, namespace: &str, turn: Turn) -> Reading {
        if let Some(reading) = entry.reading() {
            return reading.clone();
        }
        let (this, name) = (self.clone(), namespace.to_owned());
        let read = tokio::spawn(async move {
            let late = |_| Err(Unavailable::new(&name, "the API server doesn't answer"));
            let found = timeout(READ_WITHIN, this.read(&name, turn)).await.unwrap_or_else(late);
            this.learn(&name, &found);
            found
        });
        let name = namespace.to_owned();
        let ended = move |_| Err(Unavailable::new(&name, "the gateway is ending"));
        let task = read.abort_handle();
        let found = read.map(|found| found.unwrap_or_else(ended)).boxed().shared();
        entry.reading.insert(Reading { found, task }).clone()
    }

    async fn read(&self, namespace: &str, turn: Turn) -> Found {
        // The semaphore is never closed.
        let _turn = match turn {
            Turn::Renewal => self.renewals.clone().acquire_owned().await.ok().map(Arc::new),
            Turn::Read(permit) => Some(counting(permit)),
        };
        self.keys.key(namespace).await
    }

    fn learn(&self, namespace: &str, found: &Found) {
        let mut kept = self.kept();
        let entry = kept.entry(namespace.into()).or_default();
        match (found, &mut entry.known) {
            (Ok(key), known) => {
                *known = Some(Known { key: key.clone(), since: Instant::now(), failed: None });
            }
            (Err(error), known) => {
                tracing::warn!(%error, "an access key could not be read");
                if let Some(known) = known {
                    known.failed = Some(Instant::now());
                }
            }
        }
    }

    /// The read to wait for, or what is known instead.
    fn look_after(self: &Arc<Self>, namespace: &str, old: &Arc<Key>) -> Result<Reading, Option<Arc<Key>>> {
        let mut kept = self.kept();
        let entry = kept.get_mut(namespace).ok_or_else(|| Some(old.clone()))?;
        let known = entry.known().ok_or_else(|| Some(old.clone()))?.clone();
        let is_old = known.key.as_ref().is_some_and(|key| Arc::ptr_eq(key, old));
        if !is_old || known.since.elapsed() < TRUSTED || known.has_just_failed() {
            return Err(known.key);
        }
        if let Some(reading) = entry.reading() {
            return Ok(reading.clone());
        }
        // Whoever shows nonsense keeps nobody waiting who has a token.
        let permit = self.reads.clone().try_acquire_owned().map_err(|_| known.key)?;
        Ok(self.reading(entry, namespace, Turn::Read(permit)))
    }
}

/// Counts for as long as it is held, and at least for [`READ_COUNTS`].
fn counting(permit: OwnedSemaphorePermit) -> Arc<OwnedSemaphorePermit> {
    let (permit, until) = (Arc::new(permit), Instant::now() + READ_COUNTS);
    let held = permit.clone();
    tokio::spawn(async move {
        sleep_until(until).await;
        drop(held);
    });
    permit
}

impl<K: Keys> Keys for Kept<K> {
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            match self.0.look(namespace)? {
                Look::Known(key) => Ok(key),
                Look::Renewing(reading, old) => reading.found.await.or(Ok(old)),
                Look::Reading(reading) => reading.found.await,
            }
        })
    }

    fn key_after<'a>(&'a self, namespace: &'a str, old: &'a Arc<Key>) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            match self.0.look_after(namespace, old) {
                Ok(reading) => reading.found.await,
                Err(key) => Ok(key),
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "keys_tests.rs"]
mod tests;
