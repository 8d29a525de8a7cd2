//! All Services, because a Spark must know whose its name is; little of each is kept.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sparks_api::Spark;

use crate::{
    index::{Change, Index, Reference, Relation},
    kind::Kind,
    known::Known,
    memory::Memory,
    stored::Stored,
    world::Now,
};

impl Stored for Service {
    type Wire = Self;

    fn admit(mut wire: Self) -> Option<Self> {
        wire.status = None;
        wire.metadata.annotations = None;
        wire.spec = wire.spec.map(|spec| ServiceSpec { ports: spec.ports, ..Default::default() });
        Some(wire)
    }

    fn relations(_: &Known<Self>) -> Vec<Relation> {
        Vec::new()
    }

    /// Also one that is somebody else's: a Spark of its name waits for its end.
    fn touches(change: &Change<'_, Self>, index: &Index) -> Vec<Reference> {
        let name = change.last().map(|service| service.id.name.clone());
        name.filter(|name| index.get::<Spark>(name).is_some()).map(Spark::named).into_iter().collect()
    }

    fn noticed(change: &Change<'_, Self>, memory: &Memory, _: Now) {
        change.last().into_iter().for_each(|service| memory.forget_service(&service.id.name));
    }
}
