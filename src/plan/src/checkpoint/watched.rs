//! What ties a Checkpoint to others, and whom its changes concern.

use sparks_api::{Checkpoint, NamespacedName, Volume};

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    spark::waiting_for,
    stored::Stored,
};

impl Stored for Checkpoint {
    type Wire = Self;

    fn admit(wire: Self) -> Option<Self> {
        Some(wire)
    }

    fn relations(this: &Known<Self>) -> Vec<Relation> {
        let taken = this.status.as_ref().is_some_and(|status| status.taken_at.is_some());
        let spark = NamespacedName::new(this.namespace(), &this.spec.spark);
        (!taken).then_some(Relation::WaitsFor(spark)).into_iter().collect()
    }

    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let Some(checkpoint) = change.last() else { return Vec::new() };
        let mut touched = vec![Self::reference(checkpoint)];
        if change.new.is_none() {
            let owned = index.related::<Volume>(&Relation::Owner(checkpoint.id.uid.clone()));
            touched.extend(owned.map(Kind::reference));
        }
        touched.extend(waiting_for(&checkpoint.id.name, index));
        touched
    }
}
