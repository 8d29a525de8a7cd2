//! Records of activity: the only thing that the gateway says to a Spark, and what wakes it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture, future::Shared};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sparks_api::Spark;
use tokio::sync::oneshot;

use super::Key;

/// Field manager of what the gateway writes.
const MANAGER: &str = "sparks-gateway";

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The Spark is gone.
    Gone,
    /// The API server's words.
    Refused(String),
}

/// Writes `status.lastActivityAt` of a Spark.
pub trait Writer: Send + Sync + 'static {
    /// Writes it.
    fn write(&self, key: Key, at: Timestamp) -> BoxFuture<'static, Result<(), WriteError>>;
}

/// Writes to the API server.
pub struct ApiWriter(pub Client);

impl Writer for ApiWriter {
    fn write(&self, key: Key, at: Timestamp) -> BoxFuture<'static, Result<(), WriteError>> {
        let api = Api::<Spark>::namespaced(self.0.clone(), &key.namespace);
        let patch = json!({"status": {"lastActivityAt": format!("{at:.6}")}});
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        Box::pin(async move {
            match api.patch_status(&key.name, &parameters, &Patch::Merge(patch)).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Err(WriteError::Gone),
                Err(kube::Error::Api(status)) => Err(WriteError::Refused(status.message.clone())),
                Err(error) => Err(WriteError::Refused(error.to_string())),
            }
        })
    }
}

type Write = Shared<BoxFuture<'static, Result<(), WriteError>>>;

/// What this replica has written or is writing; callers of one Spark share one write.
#[derive(Clone)]
pub struct Activity {
    writer: Arc<dyn Writer>,
    inner: Arc<Mutex<HashMap<Key, Entry>>>,
}

#[derive(Default)]
struct Entry {
    written: Option<Timestamp>,
    writing: Option<Write>,
}

impl Activity {
    /// Nothing is written yet.
    pub fn new(writer: Arc<dyn Writer>) -> Self {
        Self { writer, inner: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written last; the cache may not show it yet.
    pub fn written(&self, key: &Key) -> Option<Timestamp> {
        self.inner().get(key).and_then(|entry| entry.written)
    }

    /// Whether a write is on its way.
    pub fn writing(&self, key: &Key) -> bool {
        self.inner().get(key).is_some_and(|entry| entry.writing.is_some())
    }

    /// Writes `at`, or waits for the write that is on its way. The write goes on when nobody waits for it any more.
    pub fn write(&self, key: &Key, at: Timestamp) -> impl Future<Output = Result<(), WriteError>> + use<> {
        let mut inner = self.inner();
        let entry = inner.entry(key.clone()).or_default();
        entry.writing.get_or_insert_with(|| self.start(key.clone(), at)).clone()
    }

    fn start(&self, key: Key, at: Timestamp) -> Write {
        let (done, result) = oneshot::channel();
        let (this, write) = (self.clone(), self.writer.write(key.clone(), at));
        tokio::spawn(async move {
            let result = write.await;
            if let Some(entry) = this.inner().get_mut(&key) {
                entry.writing = None;
                if result.is_ok() {
                    entry.written = Some(at);
                }
            }
            let _ = done.send(result);
        });
        let dropped = |_| Err(WriteError::Refused("the gateway is ending".into()));
        result.map(move |result| result.unwrap_or_else(dropped)).boxed().shared()
    }

    /// The Spark is gone.
    pub fn forget(&self, key: &Key) {
        self.inner().remove(key);
    }
}
