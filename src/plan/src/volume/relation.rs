//! What ties a Volume to its owner, its node and its image, and whom its changes concern.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{Checkpoint, NamespacedName, Spark, Uid, Volume, labels};

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    names,
    spark::waiting_for,
    stored::Stored,
};

/// Whose data a Volume holds, as its labels tell.
pub struct Owner {
    /// The Spark or Checkpoint.
    pub reference: Reference,
    /// Its uid.
    pub uid: Uid,
}

impl Owner {
    /// Its kind, as the API server has it.
    #[must_use]
    pub fn resource(&self) -> kube::core::ApiResource {
        match self.reference.kind {
            Checkpoint::NAME => kube::core::ApiResource::erase::<Checkpoint>(&()),
            _ => kube::core::ApiResource::erase::<Spark>(&()),
        }
    }

    /// Whether that very object exists.
    #[must_use]
    pub fn exists(&self, index: &Index) -> bool {
        let uid = if self.reference.kind == Checkpoint::NAME {
            index.get::<Checkpoint>(&self.reference.name).map(|owner| &owner.id.uid)
        } else {
            index.get::<Spark>(&self.reference.name).map(|owner| &owner.id.uid)
        };
        uid == Some(&self.uid)
    }
}

/// Whose data the Volume holds.
#[must_use]
pub fn owner(volume: &Known<Volume>) -> Option<Owner> {
    let label = |key: &str| volume.labels().get(key);
    let name = NamespacedName::new(volume.namespace(), label(labels::OWNER_NAME)?);
    let checkpoint = label(labels::OWNER_KIND).is_some_and(|kind| kind == Checkpoint::NAME);
    let reference = if checkpoint { Checkpoint::named(name) } else { Spark::named(name) };
    Some(Owner { reference, uid: Uid::new(label(labels::OWNER_UID)?)? })
}

/// The Volume and its owner.
pub fn with_owner(volume: &Known<Volume>) -> Vec<Reference> {
    owner(volume).map(|owner| owner.reference).into_iter().chain([Volume::reference(volume)]).collect()
}

/// Volumes with this owner that are neither in the trash nor being deleted.
pub fn owned<'a>(index: &'a Index, namespace: &str, uid: &Uid) -> impl Iterator<Item = &'a Known<Volume>> {
    index
        .related(&Relation::Owner(uid.clone()))
        .filter(move |volume: &&Known<Volume>| volume.namespace() == namespace)
}

/// The one of a Spark's Volumes that is its own now: the wanted restore's if it is there, else the one in status, else
/// any.
#[must_use]
pub fn live<'a>(spark: &Known<Spark>, volumes: &'a [Known<Volume>]) -> Option<&'a Known<Volume>> {
    let named = |name: &str| volumes.iter().find(|volume| volume.name() == name);
    let restore = spark.spec.restore.as_ref();
    let restored = restore.and_then(|r| named(&names::restored_volume(spark.name(), &spark.id.uid, r)));
    let recorded = spark.status.as_ref().and_then(|s| s.volume.as_ref()).and_then(|v| named(&v.name));
    restored.or(recorded).or(volumes.first())
}

/// The same, of what is known.
#[must_use]
pub fn live_of(spark: &Known<Spark>, index: &Index) -> Option<Known<Volume>> {
    let volumes: Vec<_> = owned(index, spark.namespace(), &spark.id.uid).cloned().collect();
    live(spark, &volumes).cloned()
}

/// The pod that imports the Volume's image on its node.
#[must_use]
pub fn import_pod<'a>(volume: &Known<Volume>, index: &'a Index) -> Option<&'a Known<Pod>> {
    let key = &volume.spec.source.image.as_ref()?.key;
    let name = names::import_pod(key, &volume.spec.node_name);
    index.get(&NamespacedName::new(volume.namespace(), &name))
}

impl Stored for Volume {
    type Wire = Self;

    fn admit(wire: Self) -> Option<Self> {
        Some(wire)
    }

    fn relations(this: &Known<Self>) -> Vec<Relation> {
        let node = Relation::OnNode(this.spec.node_name.as_str().into());
        let image = this.spec.source.image.as_ref().map(|image| Relation::Image(image.key.clone()));
        let kept = this.metadata.deletion_timestamp.is_none();
        let tie = if this.spec.trashed_at.is_some() { Relation::Trash } else { Relation::Owner };
        let owner = owner(this).filter(|_| kept).map(|owner| tie(owner.uid));
        [Some(node), image, owner].into_iter().flatten().collect()
    }

    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let Some(volume) = change.last() else { return Vec::new() };
        let mut touched: Vec<_> = change.both().flat_map(with_owner).collect();
        // Whoever waits for this Volume waits for its first status; the API server fills in one of generation -1.
        let told = volume.status.as_ref().is_some_and(|status| status.observed_generation > Some(0));
        if let (true, Some(owner)) = (told, owner(volume)) {
            touched.extend(waiting_for(&owner.reference.name, index));
        }
        touched.sort();
        touched.dedup();
        touched
    }
}
