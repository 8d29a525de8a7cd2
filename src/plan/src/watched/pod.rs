//! Pods of Sparks, pools and imports.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sparks_api::{NamespacedName, Spark, SparkPool, Uid, Volume, labels};

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    memory::Memory,
    pods,
    stored::Stored,
    volume,
    world::Now,
};

/// The object of this name in the pod's namespace that a label names.
fn named(pod: &Known<Pod>, label: &str) -> Option<NamespacedName> {
    pod.labels().get(label).map(|name| NamespacedName::new(pod.namespace(), name))
}

/// The Spark that the pod was given to.
pub fn spark_uid(pod: &Pod) -> Option<Uid> {
    pod.labels().get(labels::SPARK_UID).and_then(|uid| Uid::new(uid))
}

impl Stored for Pod {
    type Wire = Self;
    const SELECTOR: Option<&'static str> = Some(labels::ROLE);

    /// Drops what nobody reads: with a thousand pods it is most of the memory.
    fn admit(mut wire: Self) -> Option<Self> {
        if let Some(spec) = &mut wire.spec {
            (spec.volumes, spec.tolerations) = (None, None);
            for container in &mut spec.containers {
                (container.volume_mounts, container.env) = (None, None);
            }
        }
        Some(wire)
    }

    fn relations(this: &Known<Self>) -> Vec<Relation> {
        let owner = spark_uid(this).map(Relation::Owner);
        let pool = named(this, labels::POOL).map(Relation::Pool);
        let free = pods::is_free(this).then(|| Relation::Free(this.namespace().into()));
        [owner, pool, free].into_iter().flatten().collect()
    }

    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let mut touched: Vec<_> = change
            .both()
            .flat_map(|pod| {
                let spark = named(pod, labels::SPARK).map(Spark::named);
                // A claimed pod has lost its pool's label.
                spark.into_iter().chain(named(pod, labels::POOL).map(SparkPool::named))
            })
            .collect();
        let image = change.last().and_then(|pod| pod.labels().get(labels::IMAGE_KEY));
        let waiting = image.map(|key| Relation::Image(key.clone()));
        touched.extend(
            waiting.iter().flat_map(|image| index.related::<Volume>(image)).flat_map(volume::with_owner),
        );
        touched.sort();
        touched.dedup();
        touched
    }

    /// A claim that is known needs not be remembered.
    fn noticed(change: &Change<'_, Self>, memory: &Memory, _: Now) {
        let Some(pod) = change.last() else { return };
        if change.new.is_none() || spark_uid(pod).is_some() {
            memory.release(&pod.id.uid);
        }
    }
}
