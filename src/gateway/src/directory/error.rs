//! Why there is no pod to connect to.

use std::{net::IpAddr, time::Duration};

/// Why there is no pod to connect to. The sentences are for whoever is allowed to know of the Spark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WakeError {
    /// There is no such Spark, or it was deleted while somebody waited for it.
    #[error("there is no Spark {spark}")]
    Unknown {
        /// `NAME.NAMESPACE`.
        spark: String,
    },
    /// `spec.lifecycle.running` is false; only its owner starts it.
    #[error("{name}.{namespace} is stopped: spark start {name} -n {namespace}")]
    Stopped {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// It can't run until somebody changes something.
    #[error("{spark} can't run: {message}")]
    Failed {
        /// `NAME.NAMESPACE`.
        spark: String,
        /// Message of its Ready condition.
        message: String,
    },
    /// Its status has an address that no pod can have.
    #[error("{spark} does not answer at {address}")]
    Astray {
        /// `NAME.NAMESPACE`.
        spark: String,
        /// The address.
        address: IpAddr,
    },
    /// It took too long.
    #[error("{spark} has not started within {} s: {message}", .waited.as_secs())]
    Timeout {
        /// `NAME.NAMESPACE`.
        spark: String,
        /// How long somebody waited.
        waited: Duration,
        /// What it was doing.
        message: String,
    },
}

impl WakeError {
    /// One word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
            Self::Astray { .. } => "astray",
            Self::Timeout { .. } => "timeout",
        }
    }
}
