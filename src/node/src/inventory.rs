//! What is in the pool. Read once at the start; after that only this agent changes it, so that looking costs nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use sparks_host::{HostError, Volumes, pool};

/// Volumes and images of this node's pool.
#[derive(Default)]
pub struct Inventory {
    volumes: RwLock<HashMap<String, Arc<pool::Volume>>>,
    images: RwLock<HashSet<String>>,
}

impl Inventory {
    /// Reads the pool.
    pub fn load(host: &dyn Volumes) -> Result<Self, HostError> {
        let volumes =
            host.volumes()?.into_iter().map(|volume| (volume.uid.clone(), Arc::new(volume))).collect();
        let images = host.images()?.into_iter().map(|image| image.key).collect();
        Ok(Self { volumes: RwLock::new(volumes), images: RwLock::new(images) })
    }

    /// The volume of this uid.
    pub fn volume(&self, uid: &str) -> Option<Arc<pool::Volume>> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Uids of all volumes.
    pub fn uids(&self) -> Vec<String> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// A volume was made.
    pub fn add(&self, volume: pool::Volume) {
        self.volumes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(volume.uid.clone(), Arc::new(volume));
    }

    /// The limit of a disk was set.
    pub fn limit(&self, uid: &str, disk: &str, bytes: u64) {
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = volumes.get_mut(uid) {
            let disks = &mut Arc::make_mut(volume).disks;
            disks.iter_mut().filter(|d| d.name == disk).for_each(|d| d.limit_bytes = Some(bytes));
        }
    }

    /// A volume went into the trash.
    pub fn remove(&self, uid: &str) {
        self.volumes.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Whether the image is imported.
    pub fn has_image(&self, key: &str) -> bool {
        self.images.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// An image was imported, or turned out to be missing.
    pub fn set_image(&self, key: &str, present: bool) {
        let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
        if present {
            images.insert(key.to_owned())
        } else {
            images.remove(key)
        };
    }
}
