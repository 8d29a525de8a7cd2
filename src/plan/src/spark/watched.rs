//! What ties a Spark to others, and whom its changes concern.

use sparks_api::{Checkpoint, NamespacedName, Spark, Volume};

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    memory::Memory,
    stored::Stored,
    world::Now,
};

impl Stored for Spark {
    type Wire = Self;

    fn admit(wire: Self) -> Option<Self> {
        Some(wire)
    }

    fn relations(this: &Known<Self>) -> Vec<Relation> {
        let placed = this.status.as_ref().is_some_and(|status| status.volume.is_some());
        let unplaced = (!placed).then_some(Relation::Unplaced);
        let fork = fork_source(this).filter(|_| !placed);
        let waits = fork.into_iter().chain(restore_source(this)).map(Relation::WaitsFor);
        unplaced.into_iter().chain(waits).collect()
    }

    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let Some(spark) = change.last() else { return Vec::new() };
        let mut touched = vec![Self::reference(spark)];
        if change.new.is_none() {
            let owned = index.related::<Volume>(&Relation::Owner(spark.id.uid.clone()));
            touched.extend(owned.map(Kind::reference));
        }
        touched.extend(waiting_for(&spark.id.name, index));
        touched
    }

    fn noticed(change: &Change<'_, Self>, memory: &Memory, now: Now) {
        if let Change { old: Some(gone), new: None } = change {
            memory.forget(&gone.id.uid, now);
        }
    }
}

/// Sparks that are to be made from, or restored to, the Spark or Checkpoint of this name, and Checkpoints of it.
pub(crate) fn waiting_for(name: &NamespacedName, index: &Index) -> Vec<Reference> {
    let relation = Relation::WaitsFor(name.clone());
    let sparks = index.related::<Spark>(&relation).map(Kind::reference);
    sparks.chain(index.related::<Checkpoint>(&relation).map(Kind::reference)).collect()
}

/// The Spark or Checkpoint that it is to be forked from.
fn fork_source(spark: &Known<Spark>) -> Option<NamespacedName> {
    let from = spark.spec.from.as_ref()?;
    let name = from.spark.as_ref().or(from.checkpoint.as_ref())?;
    Some(NamespacedName::new(from.namespace.as_deref().unwrap_or(spark.namespace()), name))
}

/// The Checkpoint that it is to be restored to.
fn restore_source(spark: &Known<Spark>) -> Option<NamespacedName> {
    let wanted = &spark.spec.restore.as_ref()?.checkpoint;
    let done = spark.status.as_ref().and_then(|status| status.restored.as_ref());
    let restored = done.is_some_and(|done| {
        done.checkpoint == *wanted && done.id == spark.spec.restore.as_ref().and_then(|r| r.id.clone())
    });
    (!restored).then(|| NamespacedName::new(spark.namespace(), wanted))
}
