//! Waits for containers to end, because a disk is never in two pods.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sparks_api::NamespacedName;
use sparks_host::Host;
use sparks_ops::queue::Queue;
use tokio::sync::Notify;

use crate::guest::Guests;

/// How often the machine is asked. A pidfd is polled, which takes microseconds; a waiting thread for each ending pod
/// would take the threads that forks need.
const INTERVAL: Duration = Duration::from_millis(100);

/// Containers whose end somebody waits for.
#[derive(Default)]
pub struct Exits {
    waiting: Mutex<HashMap<String, HashSet<NamespacedName>>>,
    more: Notify,
}

impl Exits {
    /// Looks at this Volume again when the container is gone.
    pub fn watch(&self, container: &str, volume: &NamespacedName) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(container.into()).or_default().insert(volume.clone());
        self.more.notify_one();
    }

    /// Runs for as long as the agent does.
    pub async fn run(&self, host: Arc<dyn Host>, guests: Arc<Guests>, queue: Queue<NamespacedName>) {
        loop {
            let containers: Vec<String> =
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
            if containers.is_empty() {
                self.more.notified().await;
                continue;
            }
            let gone = self.gone(host.clone(), containers).await;
            for container in gone {
                guests.forget(&container);
                let keys = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&container);
                keys.into_iter().flatten().for_each(|key| queue.trigger(key));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn gone(&self, host: Arc<dyn Host>, containers: Vec<String>) -> Vec<String> {
        let ask = move || containers.into_iter().filter(|id| is_gone(&*host, id)).collect();
        tokio::task::spawn_blocking(ask).await.unwrap_or_default()
    }
}

/// Whether the container's init process is gone. Doubt counts as alive.
pub fn is_gone(host: &dyn Host, container: &str) -> bool {
    host.wait_gone(container, Duration::ZERO).unwrap_or_else(|error| {
        tracing::warn!(container, %error, "it can't be told whether the container is gone");
        false
    })
}
