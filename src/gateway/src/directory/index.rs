//! The Sparks that the watch has shown.

use std::collections::HashMap;

use kube::ResourceExt;
use sparks_api::Spark;

use super::{
    Key,
    keys::{Entry, Fingerprint, Trust, Trusted},
};

/// The Sparks that the watch has shown.
#[derive(Default)]
pub struct Index {
    sparks: HashMap<Key, Entry>,
    trusted: Trusted,
    /// What a list that is being taken has shown so far.
    listing: Option<HashMap<Key, Entry>>,
}

impl Index {
    /// A Spark by name.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.sparks.get(key)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.sparks.values()
    }

    /// In which ways any Spark trusts this key.
    pub fn trusts(&self, key: &Fingerprint) -> Trust {
        self.trusted.get(key)
    }

    /// A Spark came or changed.
    pub fn apply(&mut self, spark: Spark) -> Key {
        let key = key(&spark);
        let entry = Entry::new(spark, self.sparks.get(&key));
        let old = self.sparks.insert(key.clone(), entry.clone());
        self.trusted.change(&key, old.as_ref(), Some(&entry));
        key
    }

    /// A Spark went.
    pub fn delete(&mut self, spark: &Spark) -> Key {
        let key = key(spark);
        let old = self.sparks.remove(&key);
        self.trusted.change(&key, old.as_ref(), None);
        key
    }

    /// A list begins; until it is complete the old Sparks stay.
    pub fn begin(&mut self) {
        self.listing = Some(HashMap::new());
    }

    /// A Spark of the list.
    pub fn list(&mut self, spark: Spark) {
        let key = key(&spark);
        let entry = Entry::new(spark, self.sparks.get(&key));
        self.listing.get_or_insert_default().insert(key, entry);
    }

    /// The list is complete. Returns the Sparks that are there no more.
    pub fn finish(&mut self) -> Vec<Key> {
        let old = std::mem::replace(&mut self.sparks, self.listing.take().unwrap_or_default());
        self.trusted = Trusted::default();
        for (key, entry) in &self.sparks {
            self.trusted.change(key, None, Some(entry));
        }
        old.into_keys().filter(|key| !self.sparks.contains_key(key)).collect()
    }
}

fn key(spark: &Spark) -> Key {
    Key { namespace: spark.namespace().unwrap_or_default(), name: spark.name_any() }
}
