//! The access keys of namespaces, kept for a short while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use spark_client::access::{Key, SECRET};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long a key is used before it is read again: so long does a revoked one go on to work.
const KEPT: Duration = Duration::from_secs(30);
/// How long it is remembered that there is none: so long does a visitor wait who came before the key was made.
const MISSED: Duration = Duration::from_secs(2);
/// How long a key is not read again though it did not sign what somebody shows, who may have made that up.
const TRUSTED: Duration = Duration::from_secs(2);
/// How long an old key is used while the API server doesn't answer.
const STALE: Duration = Duration::from_secs(600);
/// Namespaces that are remembered.
const MOST: usize = 4096;
/// Reads at the same time, and how long each counts at least: strangers can make the gateway read at most 100 per second.
const READS: usize = 4;
const READ_COUNTS: Duration = Duration::from_millis(40);

/// The key can't be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access key of namespace {namespace} can't be read: {message}")]
pub struct Unavailable {
    /// The namespace.
    pub namespace: String,
    /// What the API server said.
    pub message: String,
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
        let failed = |message: String| Unavailable { namespace: namespace.into(), message };
        Box::pin(async move {
            let api = Api::<Secret>::namespaced(self.0.clone(), namespace);
            let secret = api.get_opt(SECRET).await.map_err(|error| failed(error.to_string()))?;
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
pub struct Kept<K> {
    keys: K,
    kept: Mutex<HashMap<String, Arc<Entry>>>,
    reads: Arc<Semaphore>,
}

#[derive(Default)]
struct Entry(tokio::sync::Mutex<Option<Known>>);

struct Known {
    key: Option<Arc<Key>>,
    since: Instant,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < if self.key.is_some() { KEPT } else { MISSED }
    }
}

impl<K: Keys> Kept<K> {
    /// Remembers what `keys` finds.
    pub fn new(keys: K) -> Self {
        Self { keys, kept: Mutex::default(), reads: Arc::new(Semaphore::new(READS)) }
    }

    fn entry(&self, namespace: &str) -> Arc<Entry> {
        let mut kept = self.kept();
        if let Some(entry) = kept.get(namespace) {
            return entry.clone();
        }
        if kept.len() >= MOST {
            // An entry that can't be locked is in use.
            kept.retain(|_, entry| {
                entry.0.try_lock().map_or(true, |known| known.as_ref().is_some_and(Known::is_fresh))
            });
        }
        let entry = Arc::new(Entry::default());
        if kept.len() < MOST {
            kept.insert(namespace.into(), entry.clone());
        }
        entry
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, namespace: &str) -> Found {
        // The semaphore is never closed.
        let permit = self.reads.clone().acquire_owned().await.ok();
        self.read_with(namespace, permit).await
    }

    async fn read_with(&self, namespace: &str, permit: Option<OwnedSemaphorePermit>) -> Found {
        let found = self.keys.key(namespace).await;
        tokio::spawn(async move {
            tokio::time::sleep(READ_COUNTS).await;
            drop(permit);
        });
        found
    }
}

impl<K: Keys> Keys for Kept<K> {
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let entry = self.entry(namespace);
            let mut known = entry.0.lock().await;
            if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
                return Ok(known.key.clone());
            }
            match self.read(namespace).await {
                Ok(key) => {
                    *known = Some(Known { key: key.clone(), since: Instant::now() });
                    Ok(key)
                }
                Err(error) => {
                    tracing::warn!(%error, "an access key could not be read");
                    let old = known.as_ref().filter(|old| old.key.is_some() && old.since.elapsed() < STALE);
                    old.map(|old| old.key.clone()).ok_or(error)
                }
            }
        })
    }

    fn key_after<'a>(&'a self, namespace: &'a str, old: &'a Arc<Key>) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let entry = self.entry(namespace);
            let mut known = entry.0.lock().await;
            let Some(Known { key, since }) = known.as_ref() else { return Ok(Some(old.clone())) };
            let is_old = key.as_ref().is_some_and(|key| Arc::ptr_eq(key, old));
            if !is_old || since.elapsed() < TRUSTED {
                return Ok(key.clone());
            }
            // Whoever shows nonsense keeps nobody waiting who has a token.
            let Ok(permit) = self.reads.clone().try_acquire_owned() else { return Ok(key.clone()) };
            let key = self.read_with(namespace, Some(permit)).await?;
            *known = Some(Known { key: key.clone(), since: Instant::now() });
            Ok(key)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Clone, Copy)]
    enum Says {
        Key,
        None,
        Error,
    }

    struct Fake {
        says: Mutex<Says>,
        reads: AtomicUsize,
    }

    impl Keys for Fake {
        fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let says = *self.says.lock().unwrap();
            Box::pin(async move {
                tokio::task::yield_now().await;
                match says {
                    Says::Key => Ok(Some(Arc::new(Key::new(&[1; 32]).unwrap()))),
                    Says::None => Ok(None),
                    Says::Error => Err(Unavailable { namespace: namespace.into(), message: String::new() }),
                }
            })
        }
    }

    fn kept(says: Says) -> Kept<Fake> {
        Kept::new(Fake { says: Mutex::new(says), reads: AtomicUsize::new(0) })
    }

    impl Kept<Fake> {
        fn reads(&self) -> usize {
            self.keys.reads.load(Ordering::Relaxed)
        }

        fn now(&self, says: Says) {
            *self.keys.says.lock().unwrap() = says;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_read_once_by_all_who_ask_and_again_after_a_while() {
        let kept = kept(Says::Key);
        let all = futures::future::join_all((0..100).map(|_| kept.key("a"))).await;
        assert!(all.iter().all(|found| found.as_ref().unwrap().is_some()));
        assert_eq!(kept.reads(), 1);
        kept.now(Says::None);
        tokio::time::advance(KEPT).await;
        assert!(kept.key("a").await.unwrap().is_none(), "a key that was deleted opens nothing more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_did_not_sign_is_read_again_but_not_as_often_as_somebody_asks() {
        let kept = kept(Says::Key);
        let old = kept.key("a").await.unwrap().unwrap();
        for _ in 0..100 {
            assert!(Arc::ptr_eq(&kept.key_after("a", &old).await.unwrap().unwrap(), &old));
        }
        assert_eq!(kept.reads(), 1);
        tokio::time::advance(TRUSTED).await;
        let new = kept.key_after("a", &old).await.unwrap().unwrap();
        assert!(!Arc::ptr_eq(&new, &old));
        // All who still have the old one share that read.
        assert!(Arc::ptr_eq(&kept.key_after("a", &old).await.unwrap().unwrap(), &new));
        assert_eq!(kept.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_key_is_soon_forgotten() {
        let kept = kept(Says::None);
        assert!(kept.key("a").await.unwrap().is_none());
        kept.now(Says::Key);
        assert!(kept.key("a").await.unwrap().is_none());
        tokio::time::advance(MISSED).await;
        assert!(kept.key("a").await.unwrap().is_some());
        assert_eq!(kept.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_key_outlives_an_api_server_that_does_not_answer_but_not_forever() {
        let kept = kept(Says::Key);
        assert!(kept.key("a").await.unwrap().is_some());
        kept.now(Says::Error);
        tokio::time::advance(STALE / 2).await;
        assert!(kept.key("a").await.unwrap().is_some());
        tokio::time::advance(STALE).await;
        assert!(kept.key("a").await.is_err());
        assert!(kept.key("b").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_who_name_many_namespaces_fill_no_memory_and_make_few_reads() {
        let kept = kept(Says::None);
        let before = Instant::now();
        for index in 0..MOST + 500 {
            assert!(kept.key(&format!("n{index}")).await.unwrap().is_none());
        }
        assert!(kept.kept().len() <= MOST);
        let per_second = (MOST + 500) as f64 / before.elapsed().as_secs_f64();
        assert!(per_second <= 101.0, "{per_second} reads per second");
    }
}
