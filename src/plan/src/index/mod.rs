//! What is known of the cluster, with its relations, so that a change finds its neighbours without a search.
//!
//! Objects come in one by one ([`Index::put`], [`Index::remove`]) or as a whole list ([`Index::replace`]); each of these
//! answers which objects have to be looked at because of it.

mod relation;
mod shelf;

use std::{
    any::{Any, TypeId},
    collections::{HashMap, HashSet},
};

use sparks_api::NamespacedName;

pub use relation::{Reference, Relation};
use shelf::Shelf;

use crate::{known::Known, memory::Memory, stored::Stored, world::Now};

/// Before and after of one object.
pub struct Change<'a, S> {
    /// As it was known; none when it is new.
    pub old: Option<&'a Known<S>>,
    /// As it is; none when it is gone.
    pub new: Option<&'a Known<S>>,
}

impl<'a, S> Change<'a, S> {
    /// What is known last of it.
    #[must_use]
    pub fn last(&self) -> Option<&'a Known<S>> {
        self.new.or(self.old)
    }

    /// Both of them.
    pub fn both(&self) -> impl Iterator<Item = &'a Known<S>> {
        self.old.into_iter().chain(self.new)
    }
}

/// Everything that was watched, by kind, name and relation.
#[derive(Default)]
pub struct Index {
    shelves: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl Index {
    fn shelf<S: Stored>(&self) -> Option<&Shelf<S>> {
        self.shelves.get(&TypeId::of::<S>())?.downcast_ref()
    }

    fn shelf_mut<S: Stored>(&mut self) -> Option<&mut Shelf<S>> {
        let any = self.shelves.entry(TypeId::of::<S>()).or_insert_with(|| Box::new(Shelf::<S>::default()));
        any.downcast_mut()
    }

    /// The object of this name.
    #[must_use]
    pub fn get<S: Stored>(&self, name: &NamespacedName) -> Option<&Known<S>> {
        self.shelf::<S>()?.get(name)
    }

    /// All of a kind, in no order.
    pub fn all<S: Stored>(&self) -> impl Iterator<Item = &Known<S>> {
        self.shelf::<S>().into_iter().flat_map(Shelf::all)
    }

    /// Those in this relation, by name.
    pub fn related<'a, S: Stored>(
        &'a self,
        relation: &Relation,
    ) -> impl Iterator<Item = &'a Known<S>> + use<'a, S> {
        self.shelf::<S>().map(|shelf| shelf.related(relation)).into_iter().flatten()
    }

    /// Takes in one object as it is now; answers what has to be looked at.
    pub fn put<S: Stored>(&mut self, object: Known<S>, memory: &Memory, now: Now) -> Vec<Reference> {
        let name = object.id.name.clone();
        let old = self.shelf_mut::<S>().and_then(|shelf| shelf.put(object));
        let change = Change { old: old.as_ref(), new: self.get(&name) };
        S::noticed(&change, memory, now);
        S::touches(&change, self)
    }

    /// One object is gone.
    pub fn remove<S: Stored>(&mut self, name: &NamespacedName, memory: &Memory, now: Now) -> Vec<Reference> {
        let Some(old) = self.shelf_mut::<S>().and_then(|shelf| shelf.remove(name)) else { return Vec::new() };
        let change = Change { old: Some(&old), new: None };
        S::noticed(&change, memory, now);
        S::touches(&change, self)
    }

    /// Takes in a whole list: what isn't in it is gone, also where nobody told so.
    pub fn replace<S: Stored>(&mut self, list: Vec<Known<S>>, memory: &Memory, now: Now) -> Vec<Reference> {
        let there: HashSet<_> = list.iter().map(|object| object.id.name.clone()).collect();
        let gone: Vec<_> =
            self.all::<S>().map(|o| o.id.name.clone()).filter(|name| !there.contains(name)).collect();
        let mut touched: Vec<_> = gone.iter().flat_map(|name| self.remove::<S>(name, memory, now)).collect();
        list.into_iter().for_each(|object| touched.extend(self.put(object, memory, now)));
        touched
    }
}
