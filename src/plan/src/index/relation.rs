//! What ties objects together, and how one is named to the scheduler.

use std::{fmt, sync::Arc};

use sparks_api::{NamespacedName, Uid};

/// One tie; an object has as many as [`crate::stored::Stored::relations`] says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It belongs to the object with this uid.
    Owner(Uid),
    /// It lies in the trash, and belonged to the object with this uid.
    Trash(Uid),
    /// It is in this namespace.
    Namespace(Arc<str>),
    /// It waits for the Spark or Checkpoint of this name.
    WaitsFor(NamespacedName),
    /// It needs the image with this key.
    Image(String),
    /// Its data is on this node.
    OnNode(Arc<str>),
    /// It has no data yet, and waits for a node.
    Unplaced,
    /// It is of the pool of this name.
    Pool(NamespacedName),
    /// It is a warm pod of this namespace that can be taken.
    Free(Arc<str>),
}

/// Names an object that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: NamespacedName,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
