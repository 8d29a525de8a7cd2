//! A Spark: what it was forked from, where it runs, which pod it is.

mod attach;
mod inherit;
mod look;
mod observed;
#[cfg(test)]
pub(crate) mod phase_tests;
mod plan;
mod service;
mod sleep;
#[cfg(test)]
mod sleep_tests;
mod source;
mod ssh;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod watched;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sparks_api::{Spark, SparkStatus};

pub(crate) use attach::owner_labels;
pub use attach::volume_for;
pub use inherit::{effective, saved_spec};
pub use observed::{Observed, Start};
pub use plan::{key_sources, plan};
pub use service::{name_taken, service};
pub use sleep::asleep;
pub use source::{Source, from_checkpoint, from_spark, of_image, restore_source};
pub use ssh::SshFound;
pub(crate) use watched::waiting_for;

use crate::{
    action::{Action, Planned},
    kind::{Kind, Status},
    known::Known,
    world::World,
};

impl Kind for Spark {
    const NAME: &'static str = "Spark";
    const CONCURRENCY: usize = 32;
    type Seen = Observed;
    type Status = SparkStatus;

    fn look(this: &Known<Self>, world: &World<'_>) -> Observed {
        look::look(this, world)
    }

    fn plan(seen: &Observed) -> Planned<SparkStatus> {
        plan(seen)
    }

    fn status(&self) -> Option<&SparkStatus> {
        self.status.as_ref()
    }

    /// The claim of a pod, or the making of one, begins the second part of a start.
    fn done(this: &Known<Self>, actions: &[Action], world: &World<'_>) {
        let warm = actions.iter().any(|action| matches!(action, Action::Claim { .. }));
        if warm || actions.iter().any(|action| matches!(action, Action::CreatePod { .. })) {
            world.memory.claimed(&this.id.uid, warm, world.now);
        }
    }
}

impl Status for SparkStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn conditions_mut(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}
