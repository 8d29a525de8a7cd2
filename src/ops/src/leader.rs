//! Leader election between the replicas of a server.

use kube::Client;
use kube_lease_manager::{DurationSeconds, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;

/// How long a lease is valid after its last renewal: a replica takes over at most this long after the leader died.
const LEASE_SECONDS: DurationSeconds = 15;
/// How long before the end of its validity the leader renews.
const GRACE_SECONDS: DurationSeconds = 5;

/// Why a lease can't be held.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The API server refused.
    #[error("the lease {name} can't be used: {source}")]
    Lease {
        /// Name of the Lease.
        name: String,
        /// What went wrong.
        source: LeaseManagerError,
    },
    /// The task that renews the lease ended before this replica led.
    #[error("the lease {0} was given up")]
    Ended(String),
}

/// Proof that this replica leads.
pub struct Leadership {
    state: watch::Receiver<bool>,
}

impl Leadership {
    /// Waits until this replica holds the lease `name`.
    ///
    /// # Errors
    /// [`LeaderError`] when the Lease can't be made or read.
    pub async fn acquire(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
    ) -> Result<Self, LeaderError> {
        let failed = |source| LeaderError::Lease { name: name.into(), source };
        let manager = LeaseManagerBuilder::new(client, name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await
            .map_err(failed)?;
        let (mut state, _task) = manager.watch().await;
        state.wait_for(|leads| *leads).await.map_err(|_| LeaderError::Ended(name.into()))?;
        tracing::info!(lease = name, "leading");
        Ok(Self { state })
    }

    /// Completes when the lease is lost; the server must end then, because another one acts.
    pub async fn lost(mut self) {
        // An error means that the renewing task is gone, which is a loss too.
        let _ = self.state.wait_for(|leads| !*leads).await;
        tracing::warn!("the leader lease is lost");
    }
}
