//! A watch that was open before, and the moments at which it showed objects ready.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// Longest that anything may take; it only ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(300);

type Seen<K> = Arc<Mutex<HashMap<String, (Instant, K)>>>;

/// The latest state of every object, and when it came.
pub struct Watched<K> {
    seen: Seen<K>,
    news: Arc<Notify>,
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static> Watched<K> {
    /// Opens the watch and waits for its first list.
    pub async fn open(api: Api<K>) -> Self {
        let (seen, news): (Seen<K>, Arc<Notify>) = Default::default();
        let (writer, notify) = (seen.clone(), news.clone());
        let (ready, listed) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(Ok(event)) = events.next().await {
                let mut seen = writer.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        seen.insert(object.name_any(), (Instant::now(), object));
                    }
                    watcher::Event::Delete(object) => {
                        seen.remove(&object.name_any());
                    }
                    watcher::Event::InitDone => _ = ready.take().map(|ready| ready.send(())),
                    watcher::Event::Init => {}
                }
                drop(seen);
                notify.notify_waiters();
            }
        });
        let _ = listed.await;
        Self { seen, news }
    }

    /// Waits until the object is as asked, and tells when the watch showed it and how it was.
    pub async fn until(&self, name: &str, done: impl Fn(&K) -> bool) -> anyhow::Result<(Instant, K)> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = self.get(name).filter(|(_, object)| done(object)) {
                    return found;
                }
                news.await;
            }
        });
        found.await.map_err(|_| anyhow::anyhow!("{name} was not ready within {PATIENCE:?}"))
    }

    /// Waits until the object is gone.
    pub async fn until_gone(&self, name: &str) -> anyhow::Result<()> {
        let gone = async {
            while self.get(name).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone)
            .await
            .map_err(|_| anyhow::anyhow!("{name} did not go within {PATIENCE:?}"))
    }

    fn get(&self, name: &str) -> Option<(Instant, K)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
