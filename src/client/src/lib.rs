//! Client library of Sparks for apps: create, fork, checkpoint, restore, run commands in and delete whole computers.
//!
//! ```no_run
//! # async fn example() -> Result<(), spark_client::Error> {
//! use std::time::Duration;
//! use spark_client::{Condition, Exec, Sparks};
//!
//! let sparks = Sparks::try_default().await?;
//! sparks.create_from_image("api", "debian:trixie").await?;
//! sparks.wait("api", Condition::Ready, Duration::from_secs(60), |step| println!("{step}")).await?;
//! let fork = sparks.fork("api", "api-try-1").await?;
//! sparks.wait("api-try-1", Condition::Ready, Duration::from_secs(60), |_| ()).await?;
//! let output = sparks.run("api-try-1", Exec::new(["uname", "-a"]), b"").await?;
//! # let _ = (fork, output);
//! # Ok(())
//! # }
//! ```

pub mod access;
mod connect;
mod error;
mod exec;
mod fork;
mod message;
mod objects;
pub mod recordings;
mod socket;
mod trash;
mod wait;

pub use connect::ConnectOptions;
pub use error::{Error, Result};
pub use exec::{Exec, LogOptions, Output, Process, Resizer, TtySize};
pub use fork::{Name, Source};
pub use objects::Kind;
pub use sparks_api as api;
pub use trash::Trashed;
pub use wait::{Condition, Step};

use kube::{Api, Client, api::ObjectMeta};

/// Field manager of everything that this library writes.
pub const FIELD_MANAGER: &str = "spark-client";

/// Name of the container of a Spark's pod.
pub const CONTAINER: &str = "spark";

/// The Sparks of one namespace.
#[derive(Clone)]
pub struct Sparks {
    client: Client,
    namespace: String,
}

impl Sparks {
    /// Uses this client and this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// Connects as `kubectl` does: by KUBECONFIG, `~/.kube/config` or the pod's service account.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn try_default() -> Result<Self> {
        Self::connect(&ConnectOptions::default()).await
    }

    /// The same connection, for another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Self {
        Self::new(self.client.clone(), namespace)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes client, for what this library doesn't do.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The typed API of a namespaced kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn metadata(&self, name: Name) -> ObjectMeta {
        let mut metadata = ObjectMeta { namespace: Some(self.namespace.clone()), ..Default::default() };
        match name {
            Name::Exact(name) => metadata.name = Some(name),
            Name::Generated { prefix } => metadata.generate_name = Some(fork::generate_name(&prefix)),
        }
        metadata
    }
}
