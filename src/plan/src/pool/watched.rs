//! Whom the changes of a pool concern.

use sparks_api::SparkPool;

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    stored::Stored,
};

impl Stored for SparkPool {
    type Wire = Self;

    fn admit(wire: Self) -> Option<Self> {
        Some(wire)
    }

    fn relations(this: &Known<Self>) -> Vec<Relation> {
        vec![Relation::Namespace(this.namespace().into())]
    }

    fn touches(change: &Change<'_, Self>, _: &Index) -> Vec<Reference> {
        change.last().map(Self::reference).into_iter().collect()
    }
}
