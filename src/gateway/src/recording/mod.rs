//! Recording of sessions: what terminals showed and which commands ran, as asciicast, in a chain of hashes whose head is
//! in the Spark's status.
//!
//! Only what the guest sends is recorded, so nothing that was typed without an echo is ever in a recording.

pub mod api;
pub mod cast;
mod chain;
mod channels;
mod download;
mod file;
mod hash;
mod header;
mod limits;
mod lines;
mod search;
mod session;
mod size;
mod store;
mod tap;
mod text;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use tokio::task::spawn_blocking;

use cast::Header;
pub use cast::Origin;
use chain::Chain;
pub use download::Download;
use file::{Recording, adopt};
pub use limits::Limits;
pub use store::{Store, Summary};
pub use tap::{Side, Tap};

/// How often old recordings are removed, and those of a replica that is gone are ended.
const SWEEP: Duration = Duration::from_secs(600);

/// Why something can't be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The installation has no place for recordings.
    #[error("the gateway has no volume for recordings: set gateway.recordings in the chart")]
    NoStore,
    /// The volume failed.
    #[error("the recording can't be written: {0}")]
    Io(#[from] std::io::Error),
    /// A header can't be written.
    #[error("the recording's header can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A name that is no name of a Spark or of a recording.
    #[error("{0:?} is no name")]
    Name(String),
    /// One recording is as long as it may be.
    #[error(
        "the recording has reached the {} that one may have (gateway.recordings.maxBytes)",
        size::text(*.0)
    )]
    TooLong(u64),
    /// A namespace has as many recordings as it may.
    #[error(
        "the recordings of {namespace} have reached the {} that a namespace may have \
         (gateway.recordings.namespaceMaxBytes)",
        size::text(*.limit)
    )]
    NamespaceFull {
        /// The namespace.
        namespace: String,
        /// What it may have, in bytes.
        limit: u64,
    },
    /// The volume has no more than its reserve.
    #[error("the volume of recordings has no more than {} free (gateway.recordings.freeBytes)", size::text(*.0))]
    VolumeFull(u64),
    /// More channels in one connection than any client needs.
    #[error("the connection has too many channels")]
    TooManyChannels,
    /// A channel gets a number that names another one.
    #[error("the {0} gives the number {1} to two channels at once")]
    InUse(Side, u32),
    /// An answer to an OPEN that nobody has sent, or that was answered.
    #[error("the {0} answers a request for a channel that the other side has not made")]
    NotAsked(Side),
    /// A request to begin something in a session that isn't there, or not yet.
    #[error("the client asks for a program on channel {0}, which is no open session")]
    NoSession(u32),
}

impl RecordError {
    /// Whether it means that one of the two sides breaks the protocol, which the other one can't be expected to notice.
    fn is_breach(&self) -> bool {
        matches!(self, Self::TooManyChannels | Self::InUse(..) | Self::NotAsked(_) | Self::NoSession(_))
    }
}

/// Begins and ends recordings. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<Store>,
    chain: Chain,
}

impl Recorder {
    /// Records into this store, and puts the heads of the chains into the Sparks' status.
    #[must_use]
    pub fn new(store: Arc<Store>, client: Client) -> Self {
        Self { store, chain: Chain::new(client) }
    }

    fn begin(&self, header: &Header) -> Result<Recording, RecordError> {
        self.store.begin(header)
    }

    /// Whatever fails here is tried again by [`Recorder::sweep`].
    async fn end(&self, recording: Recording) {
        let id = recording.id().to_owned();
        let ended = match recording.into_ended() {
            Ok(ended) => self.chain.close(ended).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, recording = %id, "a recording could not be ended; it is tried again");
        }
    }

    /// Removes what is older than the retention, ends what a replica that died left open, and counts what there is, now
    /// and then for ever.
    pub async fn sweep(self, retention: Duration) {
        loop {
            let store = self.store.clone();
            let found = spawn_blocking(move || {
                store.prune(retention);
                store.count();
                store.unfinished()
            });
            for path in found.await.unwrap_or_default() {
                if let Err(error) = self.end_for_another(path.clone()).await {
                    tracing::warn!(%error, path = %path.display(), "a recording that a dead replica left could not be ended; it is tried again");
                }
            }
            tokio::time::sleep(SWEEP).await;
        }
    }

    /// Ends a recording whose replica is gone: nobody holds its lock.
    async fn end_for_another(&self, path: PathBuf) -> Result<(), RecordError> {
        match spawn_blocking(move || adopt(path)).await.map_err(std::io::Error::from)?? {
            Some(orphan) => self.chain.close(orphan).await,
            None => Ok(()),
        }
    }
}
