//! Copies images out of the pods that mount them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;
use sparks_api::{NamespacedName, Reason, labels::IMPORT_MOUNT};
use sparks_host::host::ImageSource;

use crate::{
    agent::Agent,
    metrics::operation,
    pods::{PodFacts, Role},
};

/// The first pause after a failed import; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Imports at the same time; each is bound by the disk.
const CONCURRENCY: usize = 2;

/// What is being imported.
pub struct Imports {
    /// By the key of the image: the last failure, if any.
    running: Mutex<HashMap<String, Option<String>>>,
    permits: tokio::sync::Semaphore,
}

impl Default for Imports {
    fn default() -> Self {
        Self { running: Mutex::default(), permits: tokio::sync::Semaphore::new(CONCURRENCY) }
    }
}

impl Imports {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<String>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last try to import this image failed.
    pub fn error(&self, key: &str) -> Option<String> {
        self.running().get(key).cloned().flatten()
    }
}

/// A container that has an image mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    key: String,
    reference: String,
    container: String,
}

/// What this pod offers. The key must be the one that this image has in this namespace: whoever may make pods in one
/// namespace must not be able to put files into the images of another.
fn offer(namespace: &str, pod: &PodFacts) -> Option<Offer> {
    let (key, reference) = pod.image.as_ref().filter(|_| pod.role == Role::Import)?;
    if *key != sparks_plan::names::image_key(namespace, reference) {
        tracing::warn!(
            namespace,
            key,
            reference,
            "a pod offers an image under a key that isn't the image's; it is ignored"
        );
        return None;
    }
    Some(Offer { key: key.clone(), reference: reference.clone(), container: pod.running()?.to_owned() })
}

/// Imports what this pod offers, unless the pool has it or another task is at it.
pub fn consider(agent: &Arc<Agent>, pod: &NamespacedName) {
    let Some(offered) = agent.pods.get(pod).and_then(|facts| offer(&pod.namespace, &facts)) else { return };
    if agent.inventory.has_image(&offered.key) {
        return;
    }
    {
        let mut running = agent.imports.running();
        if running.contains_key(&offered.key) {
            return;
        }
        running.insert(offered.key.clone(), None);
    }
    let (agent, pod) = (agent.clone(), pod.clone());
    tokio::spawn(async move { keep_trying(agent, pod, offered.key).await });
}

/// Until it is imported or the pod is gone.
async fn keep_trying(agent: Arc<Agent>, pod: NamespacedName, key: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        let offered = agent.pods.get(&pod).and_then(|facts| offer(&pod.namespace, &facts));
        let Some(offered) = offered.filter(|offered| offered.key == key) else { break };
        match import(&agent, &offered).await {
            Ok(()) => break,
            Err(sentence) => {
                tracing::warn!(image = offered.reference, "{sentence}");
                agent.metrics.failed(operation::IMPORT, Reason::HostError);
                agent.imports.running().insert(key.clone(), Some(sentence));
                agent.triggers.image(&key);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
    agent.imports.running().remove(&key);
    agent.triggers.image(&key);
}

async fn import(agent: &Arc<Agent>, offered: &Offer) -> Result<(), String> {
    let _permit = agent.imports.permits.acquire().await;
    let started = Instant::now();
    let meta = json!({"reference": offered.reference, "importedAt": Timestamp::now().to_string()});
    let source = ImageSource { container_id: offered.container.clone(), path: IMPORT_MOUNT.into() };
    let key = offered.key.clone();
    let report = agent
        .blocking(move |host| host.import_image(&key, &source, meta))
        .await
        .map_err(|e| e.to_string())?;
    let report =
        report.map_err(|error| format!("the image {} could not be imported: {error}", offered.reference))?;
    agent.inventory.set_image(&offered.key, true);
    if report.is_some() {
        let took = started.elapsed();
        agent.metrics.took(operation::IMPORT, took);
        tracing::info!(image = offered.reference, ?took, "image imported");
        tell(agent, offered, took);
    }
    Ok(())
}

fn tell(agent: &Agent, offered: &Offer, took: Duration) {
    let text = format!("the image {} was imported in {:.1} s", offered.reference, took.as_secs_f64());
    for volume in agent.triggers.volumes.state() {
        let waits = volume.spec.source.image.as_ref().is_some_and(|image| image.key == offered.key);
        let made = volume.metadata.uid.as_ref().is_some_and(|uid| agent.inventory.volume(uid).is_some());
        if waits && !made {
            agent.events.publish(&volume, vec![(Reason::ImageImported, false, text.clone())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Container;

    fn pod(key: &str, reference: &str) -> PodFacts {
        PodFacts {
            uid: "u".into(),
            role: Role::Import,
            spark_uid: None,
            image: Some((key.into(), reference.into())),
            ip: None,
            container: Container::Running("c".into()),
        }
    }

    #[test]
    fn an_image_is_taken_only_under_the_key_that_it_has_in_its_namespace() {
        let key = sparks_plan::names::image_key("a", "debian");
        assert!(offer("a", &pod(&key, "debian")).is_some());
        assert_eq!(offer("b", &pod(&key, "debian")), None);
        assert_eq!(offer("a", &pod(&key, "evil")), None);
    }
}
