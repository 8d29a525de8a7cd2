//! SSH into every Spark.
//!
//! A client authenticates here, against the keys of the Spark that it names; the gateway logs in to the Spark's guest
//! with a key of its own, says who comes, and from then on passes the packets of the connection protocol on, whatever
//! is in them.

pub mod access;
mod ahead;
pub mod authorities;
mod connection;
pub mod dial;
mod explain;
mod goodbye;
mod jump;
mod login;
pub mod metrics;
pub mod place;
mod proxy;
pub mod relay;
mod shares;
pub mod sparks;
mod startups;
mod stream;
mod visit;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sparks_ssh::transport::{Methods, PublicKey, Server};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::jump::recording;
use self::{
    access::Circumstances,
    ahead::Unproven,
    authorities::Authorities,
    dial::{Credentials, Guests},
    goodbye::Goodbyes,
    shares::Shares,
    sparks::Sparks,
    startups::{Limits, Startups},
};
pub use self::{
    metrics::Metrics,
    visit::{Record, Recorded},
};
use crate::{config::SshLimits, secrets::Keys};

/// Keys that one client may offer: its agent may hold many.
const MOST_ATTEMPTS: usize = 20;
/// Pause after a connection could not be accepted, because there are no more file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the SSH server is made of.
pub struct Settings<S> {
    /// All Sparks.
    pub sparks: S,
    /// Keys of its own.
    pub keys: Keys,
    /// Whose certificates it trusts.
    pub authorities: Authorities,
    /// Namespace of a Spark that is named without one.
    pub default_namespace: Option<String>,
    /// How many clients there may be.
    pub limits: SshLimits,
    /// What it counts.
    pub metrics: Metrics,
    /// What records sessions, where that is set up.
    pub recorder: Option<Arc<dyn Record>>,
    /// How guests are reached.
    pub guests: Guests,
}

/// What all connections share.
pub(crate) struct Shared<S> {
    pub sparks: S,
    pub authorities: Authorities,
    pub default_namespace: Option<String>,
    pub limits: SshLimits,
    pub metrics: Metrics,
    pub recorder: Option<Arc<dyn Record>>,
    pub credentials: Credentials,
    pub server: Server,
    pub startups: Startups,
    pub unproven: Unproven,
    pub shares: Shares,
}

impl<S: Sparks> Shared<S> {
    fn new(settings: Settings<S>) -> Self {
        let Settings { sparks, keys, authorities, default_namespace, limits, metrics, recorder, guests } =
            settings;
        let server = Server::new(keys.host, keys.certificates, Methods::Keys { attempts: MOST_ATTEMPTS });
        let startups = Limits {
            total: limits.ssh_max_startups.max(1),
            per_source: limits.ssh_max_startups_per_source.max(1),
        };
        Self {
            sparks,
            authorities,
            default_namespace,
            limits,
            metrics,
            recorder,
            credentials: Credentials::new(keys.login, guests),
            server,
            startups: Startups::new(startups),
            unproven: Unproven::default(),
            shares: Shares::new(limits.per_namespace()),
        }
    }

    /// The time, and where a client comes from.
    pub fn circumstances<'a>(&self, authorities: &'a [PublicKey], peer: IpAddr) -> Circumstances<'a> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Circumstances { authorities, now, peer: peer.to_canonical() }
    }
}

/// Serves SSH until `stop`, and then until all that came before has ended.
pub async fn serve<S: Sparks>(settings: Settings<S>, listener: TcpListener, stop: CancellationToken) {
    let shared = Arc::new(Shared::new(settings));
    let places = Arc::new(Semaphore::new(shared.limits.ssh_max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let goodbyes = Goodbyes::new();
    let connections = TaskTracker::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an SSH connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            shared.metrics.connection("full");
            goodbyes.say(stream);
            continue;
        };
        shared.metrics.connection("accepted");
        let shared = shared.clone();
        connections.spawn(async move {
            connection::serve(shared, stream, address).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    tracing::info!(
        connections = connections.len(),
        "no more SSH connections are taken; those that are there go on"
    );
    connections.wait().await;
}
