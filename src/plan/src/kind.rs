//! What a kind says of itself; one driver owns the rest.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Serialize, de::DeserializeOwned};
use sparks_api::NamespacedName;

use crate::{
    action::{Action, Planned},
    index::Reference,
    known::Known,
    stored::Stored,
    world::World,
};

/// A status that has conditions.
pub trait Status: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
    /// Its conditions, to be changed.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
}

/// A kind that is reconciled.
pub trait Kind: Stored<Wire = Self> + kube::Resource<DynamicType = ()> + Clone {
    /// As in the API.
    const NAME: &'static str;
    /// Passes that run at the same time.
    const CONCURRENCY: usize = 8;
    /// Whether an object that is being deleted is still to be looked at.
    const ALSO_DELETED: bool = false;

    /// What one pass depends on.
    type Seen: Send;
    /// What the controller says of it.
    type Status: Status;

    /// Gathers what a pass depends on.
    fn look(this: &Known<Self>, world: &World<'_>) -> Self::Seen;

    /// What to do now, and how the object then is.
    fn plan(seen: &Self::Seen) -> Planned<Self::Status>;

    /// The status as it is known.
    fn status(&self) -> Option<&Self::Status>;

    /// All of these were carried out.
    fn done(_this: &Known<Self>, _actions: &[Action], _world: &World<'_>) {}

    /// Names the object of this name to the scheduler.
    fn named(name: NamespacedName) -> Reference {
        Reference { kind: Self::NAME, name }
    }

    /// Names this object to the scheduler.
    fn reference(this: &Known<Self>) -> Reference {
        Self::named(this.id.name.clone())
    }
}
