//! What stands between a Volume and its spec, as a condition says it.

use std::time::Duration;

use sparks_api::{Class, Reason, conditions::RESIZED};
use sparks_host::{HostError, attach::AttachError, container::ContainerError, pool::PoolError};

/// When it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Something that is watched will change.
    Event,
    /// After this time, though nothing failed.
    After(Duration),
    /// After a pause that grows with each failure.
    Backoff,
}

/// Between tries of what won't help until somebody changes something, in case somebody did.
const RARELY: Retry = Retry::After(Duration::from_secs(60));

/// One obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Type of the condition that tells it.
    pub condition: &'static str,
    /// Why.
    pub reason: Reason,
    /// Sentence for people.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

impl Blocked {
    /// It is tried again when the class of the reason makes that worth it.
    pub fn new(condition: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        let retry = match reason.class() {
            Class::Settled | Class::Waiting => Retry::Event,
            Class::Failing => Retry::Backoff,
            Class::Stalled => RARELY,
        };
        Self { condition, reason, message: message.into(), retry }
    }

    /// The same, tried again at another time.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// What it means for whoever waits for the disks. A size that can't be set stops nobody.
    pub fn class(&self) -> Class {
        if self.condition == RESIZED { Class::Settled } else { self.reason.class() }
    }

    /// The machine refused.
    pub fn host(condition: &'static str, error: &HostError) -> Self {
        let new = |reason| Self::new(condition, reason, error.to_string());
        match error {
            HostError::Pool(PoolError::Full { .. }) => new(Reason::PoolFull),
            HostError::Pool(PoolError::NoVolume { .. } | PoolError::NoDisk { .. }) => new(Reason::SourceLost),
            HostError::Pool(PoolError::LimitBelowUsage { .. }) => new(Reason::SizeTooSmall),
            HostError::Attach(AttachError::UnsafeRoot { .. }) => new(Reason::UnsafeRoot),
            HostError::Attach(AttachError::MountPath { .. } | AttachError::NotIsolated { .. })
            | HostError::Pool(PoolError::InvalidName { .. } | PoolError::BadDisks { .. }) => {
                new(Reason::Unsupported)
            }
            HostError::Container(ContainerError::NotFound(_) | ContainerError::Gone(_))
            | HostError::Attach(AttachError::Gone) => new(Reason::PodStarting).retry(Retry::Backoff),
            _ => new(Reason::HostError),
        }
    }
}
