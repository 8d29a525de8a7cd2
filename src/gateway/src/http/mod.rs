//! HTTP into every Spark: `http://SPARK--NAMESPACE.DOMAIN`.
//!
//! A request goes through [`host`] (which Spark), [`credentials`] and [`admission`] (may it), the directory (wake), and
//! [`upstream`] (to the pod, by [`pool`] or [`streams`]). Bodies pass a frame at a time; nothing is kept. [`ssh`] carries SSH to the
//! Spark's own server.

mod admission;
mod answer;
mod body;
mod credentials;
mod dial;
mod failure;
mod flags;
mod handshake;
mod headers;
mod host;
mod keys;
mod listener;
mod metrics;
mod own;
mod phase;
mod pool;
mod proxy;
mod sessions;
mod slots;
mod ssh;
mod streams;
mod tunnel;
mod upgrade;
mod upstream;
mod wire;

use std::{io, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use kube::Client;
use sparks_api::Spark;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use body::{Body, BoxError};
pub use flags::Flags;
pub use keys::{Found, Kept, Keys, Secrets, Unavailable};
pub use metrics::Metrics;
pub use own::Sessions;
pub use sessions::sessions;
pub use ssh::Ssh;

use crate::{
    config::Config,
    directory::{Awake, Directory, WakeError},
    recording::Store,
};

/// What HTTP needs of the directory.
pub trait Computers: Send + Sync + 'static {
    /// A Spark by name.
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Spark>>;
    /// Waits until it has a pod, and wakes it for that.
    fn awake<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>>;
    /// Waits until it is Ready, and wakes it for that.
    fn serving<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>>;
    /// Records activity.
    fn active(&self, namespace: &str, name: &str);
}

impl Computers for Directory {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Spark>> {
        Directory::get(self, namespace, name)
    }

    fn awake<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>> {
        Directory::awake(self, namespace, name).boxed()
    }

    fn serving<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>> {
        Directory::serving(self, namespace, name).boxed()
    }

    fn active(&self, namespace: &str, name: &str) {
        Directory::active(self, namespace, name);
    }
}

/// What the HTTP server is made of.
pub struct Setup {
    /// Domain under which Sparks are served.
    pub domain: String,
    /// Limits, and whom to believe.
    pub flags: Flags,
    /// The Sparks.
    pub computers: Arc<dyn Computers>,
    /// The access keys of namespaces.
    pub keys: Arc<dyn Keys>,
    /// Answers requests for recorded sessions, where there are any.
    pub sessions: Option<Sessions>,
    /// What is counted.
    pub metrics: Metrics,
    /// The SSH servers of Sparks.
    pub ssh: Ssh,
}

impl Setup {
    /// Serves until `stop`, and then until every request and every tunnel has ended.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let gateway = proxy::Gateway {
            domain: host::Domain::new(&self.domain),
            believe: self.flags.http_trust_forwarded,
            computers: self.computers,
            keys: self.keys,
            sessions: self.sessions,
            metrics: self.metrics,
            ssh: self.ssh,
            upstreams: upstream::Upstreams::default(),
        };
        listener::serve(listener, Arc::new(gateway), &self.flags, stop).await;
    }
}

/// Serves HTTP as the command line says, until `stop`, and then until every request and every tunnel has ended.
///
/// # Errors
/// When the address can't be bound, or the directory of recordings can't be used.
pub async fn serve(
    config: Arc<Config>,
    client: Client,
    directory: Directory,
    metrics: Metrics,
    ssh: Ssh,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::bind(config.http_listen).await?;
    tracing::info!(address = %config.http_listen, domain = config.domain, "HTTP is served");
    let keys: Arc<dyn Keys> = Arc::new(Kept::new(Secrets(client)));
    let store = config.recordings_dir.clone().map(Store::open).transpose().map_err(io::Error::other)?;
    let setup = Setup {
        domain: config.domain.clone(),
        flags: config.http,
        computers: Arc::new(directory),
        sessions: store.map(|store| sessions(Arc::new(store), keys.clone())),
        keys,
        metrics,
        ssh,
    };
    setup.serve(listener, stop).await;
    Ok(())
}
