//! From what changed to the Volumes that it concerns.

use std::sync::Arc;

use kube::{ResourceExt, runtime::reflector::Store};
use sparks_api::{NamespacedName, Volume};
use sparks_ops::queue::Queue;

/// The Volumes of this node, and the queue of those that are to be looked at.
#[derive(Clone)]
pub struct Triggers {
    /// The queue.
    pub queue: Queue<NamespacedName>,
    /// All Volumes of this node.
    pub volumes: Store<Volume>,
}

impl Triggers {
    fn each(&self, concerned: impl Fn(&Volume) -> bool) {
        for volume in self.volumes.state() {
            if concerned(&volume) {
                self.queue.trigger(key(&volume));
            }
        }
    }

    /// The pod of this name changed, or its guest said something.
    pub fn pod(&self, pod: &NamespacedName) {
        self.each(|volume| {
            let wanted = volume.spec.attachment.as_ref().map(|wanted| wanted.pod_name.as_str());
            let attached = attached_pod(volume);
            volume.metadata.namespace.as_deref() == Some(&pod.namespace)
                && [wanted, attached].contains(&Some(&*pod.name))
        });
    }

    /// A Volume let go of this pod, or took it: whoever else is concerned with the same pod.
    pub fn pods_of(&self, volume: &Volume) {
        let wanted = volume.spec.attachment.as_ref().map(|wanted| wanted.pod_name.as_str());
        for pod in [wanted, attached_pod(volume)].into_iter().flatten() {
            self.pod(&NamespacedName::new(&volume.namespace().unwrap_or_default(), pod));
        }
    }

    /// The Volume of this uid.
    pub fn uid(&self, uid: &str) {
        self.each(|volume| volume.metadata.uid.as_deref() == Some(uid));
    }

    /// An image was imported, or could not be.
    pub fn image(&self, image: &str) {
        self.each(|volume| volume.spec.source.image.as_ref().is_some_and(|source| source.key == image));
    }

    /// A Volume got its disks.
    pub fn source(&self, uid: &str) {
        self.each(|volume| volume.spec.source.volume.as_ref().is_some_and(|source| source.uid == uid));
    }

    /// The Volume of this uid, if there is one.
    pub fn find(&self, uid: &str) -> Option<Arc<Volume>> {
        self.volumes.find(|volume| volume.metadata.uid.as_deref() == Some(uid))
    }
}

fn attached_pod(volume: &Volume) -> Option<&str> {
    Some(volume.status.as_ref()?.attached.as_ref()?.pod_name.as_str())
}

/// Name of a Volume.
pub fn key(volume: &Volume) -> NamespacedName {
    NamespacedName::new(
        volume.metadata.namespace.as_deref().unwrap_or_default(),
        volume.metadata.name.as_deref().unwrap_or_default(),
    )
}
