//! What the last pass of each object came to, for people who ask the admin port.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use sparks_plan::{action::Action, index::Reference};

/// What the last pass of one object came to. Nothing of what users wrote is in it but names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Belief {
    /// When, in RFC 3339.
    pub at: String,
    /// The writes that were planned.
    pub actions: Vec<&'static str>,
    /// What was not done, and why.
    pub declined: Vec<String>,
    /// How it ended.
    pub outcome: String,
    /// In how many milliseconds it is looked at again if nothing happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_millis: Option<u128>,
}

/// All of them.
#[derive(Default)]
pub struct Beliefs(Mutex<BTreeMap<Reference, Belief>>);

impl Beliefs {
    /// Notes what a pass came to.
    pub fn note(&self, object: Reference, belief: Belief) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(object, belief);
    }

    /// The object is gone.
    pub fn forget(&self, object: &Reference) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    /// All, by kind and name.
    pub fn all(&self) -> BTreeMap<String, Belief> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(object, belief)| (object.to_string(), belief.clone())).collect()
    }
}

/// The name of a write.
pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Claim { .. } => "claim",
        Action::CreatePod { .. } => "create pod",
        Action::DeletePod(_) => "delete pod",
        Action::ResizePod(..) => "resize pod",
        Action::CreateVolume(..) => "create Volume",
        Action::UpdateVolume(..) => "update Volume",
        Action::Abandon(_) => "put Volume into the trash",
        Action::DeleteVolume(_) => "delete Volume",
        Action::CreateService(_) => "create Service",
        Action::PatchService(..) => "patch Service",
        Action::Expire => "delete, its time is over",
    }
}

/// Whole milliseconds.
pub fn millis(pause: Option<Duration>) -> Option<u128> {
    pause.map(|pause| pause.as_millis())
}
