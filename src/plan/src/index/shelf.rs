//! All objects of one kind.

use std::collections::{BTreeSet, HashMap};

use sparks_api::NamespacedName;

use super::Relation;
use crate::{known::Known, stored::Stored};

pub struct Shelf<S> {
    objects: HashMap<NamespacedName, Known<S>>,
    related: HashMap<Relation, BTreeSet<NamespacedName>>,
}

impl<S> Default for Shelf<S> {
    fn default() -> Self {
        Self { objects: HashMap::new(), related: HashMap::new() }
    }
}

impl<S: Stored> Shelf<S> {
    pub fn get(&self, name: &NamespacedName) -> Option<&Known<S>> {
        self.objects.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Known<S>> {
        self.objects.values()
    }

    pub fn related<'a>(&'a self, relation: &Relation) -> impl Iterator<Item = &'a Known<S>> + use<'a, S> {
        self.related.get(relation).into_iter().flatten().filter_map(|name| self.objects.get(name))
    }

    /// Returns what was there before.
    pub fn put(&mut self, object: Known<S>) -> Option<Known<S>> {
        let old = self.remove(&object.id.name);
        for relation in S::relations(&object) {
            self.related.entry(relation).or_default().insert(object.id.name.clone());
        }
        self.objects.insert(object.id.name.clone(), object);
        old
    }

    /// Returns what was there.
    pub fn remove(&mut self, name: &NamespacedName) -> Option<Known<S>> {
        let old = self.objects.remove(name)?;
        for relation in S::relations(&old) {
            if let Some(names) = self.related.get_mut(&relation) {
                names.remove(name);
                if names.is_empty() {
                    self.related.remove(&relation);
                }
            }
        }
        Some(old)
    }
}
