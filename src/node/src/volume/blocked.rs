//! What stands between a Volume and its spec, as a condition says it.

use std::time::Duration;

use sparks_api::conditions::reason;
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
    /// Reason in the condition.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// Trying again doesn't help until somebody changes something.
    pub fatal: bool,
}

impl Blocked {
    /// It will come by itself.
    pub fn waiting(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), retry: Retry::Event, fatal: false }
    }

    /// It failed, and may work next time.
    pub fn failed(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), retry: Retry::Backoff, fatal: false }
    }

    /// It can't work as it is.
    pub fn hopeless(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), retry: RARELY, fatal: true }
    }

    /// The machine refused.
    pub fn host(condition: &'static str, error: &HostError) -> Self {
        let message = error.to_string();
        match error {
            HostError::Pool(PoolError::Full { .. }) => Self::failed(condition, reason::POOL_FULL, message),
            HostError::Pool(PoolError::NoVolume { .. } | PoolError::NoDisk { .. }) => {
                Self::hopeless(condition, reason::SOURCE_NOT_FOUND, message)
            }
            HostError::Pool(PoolError::LimitBelowUsage { .. }) => {
                Self { fatal: false, ..Self::hopeless(condition, reason::SIZE_TOO_SMALL, message) }
            }
            HostError::Attach(AttachError::UnsafeRoot { .. }) => {
                Self::hopeless(condition, reason::UNSAFE_ROOT, message)
            }
            HostError::Attach(AttachError::MountPath { .. } | AttachError::NotIsolated { .. })
            | HostError::Pool(PoolError::InvalidName { .. } | PoolError::BadDisks { .. }) => {
                Self::hopeless(condition, reason::HOST_ERROR, message)
            }
            HostError::Container(ContainerError::NotFound(_) | ContainerError::Gone(_))
            | HostError::Attach(AttachError::Gone) => Self::failed(condition, reason::POD_STARTING, message),
            _ => Self::failed(condition, reason::HOST_ERROR, message),
        }
    }
}
