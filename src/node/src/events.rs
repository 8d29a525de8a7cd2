//! Events on the Spark or Checkpoint that a Volume belongs to.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, ResourceExt,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use sparks_api::{Reason, Volume, labels};

/// Longest note; the API admits 1024 bytes.
const MAX_NOTE: usize = 512;

/// Publishes events, off the way of what they tell.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// In the name of this agent.
    pub fn new(client: Client, pod: &str) -> Self {
        let reporter = Reporter { controller: "sparks-node".into(), instance: Some(pod.into()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes what is new on the owner of a Volume: a reason, whether it is a warning, and a sentence.
    pub fn publish(&self, volume: &Volume, news: Vec<(Reason, bool, String)>) {
        if news.is_empty() {
            return;
        }
        let Some(owner) = owner(volume) else { return };
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            for (reason, warning, text) in news {
                let event = Event {
                    type_: if warning { EventType::Warning } else { EventType::Normal },
                    reason: reason.to_string(),
                    note: Some(text.chars().take(MAX_NOTE).collect()),
                    action: "ReconcileVolume".into(),
                    secondary: None,
                };
                if let Err(error) = recorder.publish(&event, &owner).await {
                    tracing::debug!(%error, %reason, "an event could not be published");
                }
            }
        });
    }
}

fn owner(volume: &Volume) -> Option<ObjectReference> {
    let label = |name: &str| volume.labels().get(name).cloned();
    Some(ObjectReference {
        api_version: Some(format!("{}/v1alpha1", sparks_api::GROUP)),
        kind: Some(label(labels::OWNER_KIND)?),
        name: Some(label(labels::OWNER_NAME)?),
        uid: label(labels::OWNER_UID),
        namespace: volume.namespace(),
        ..Default::default()
    })
}
