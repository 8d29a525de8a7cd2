//! Connections of HTTP/2 to Sparks, for gRPC. Many requests share one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::client::conn::http2::SendRequest;

use super::{body::Upload, pool::Origin};

/// Requests that share a connection. Servers allow a hundred or more; what goes beyond would wait without a word.
pub const PER_CONNECTION: usize = 100;
/// Connections to one Spark.
const PER_ORIGIN: usize = 256;

type Connections = tokio::sync::Mutex<Vec<Shared>>;

/// Connections of HTTP/2.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<Origin, Arc<Connections>>>);

struct Shared {
    sender: SendRequest<Upload>,
    open: Arc<AtomicUsize>,
    /// Whether it had nothing to do at the last sweep.
    idle: bool,
}

/// A request on a shared connection.
pub struct Stream(Arc<AtomicUsize>);

impl Stream {
    fn of(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place on a connection.
pub struct Place {
    /// The connection.
    pub sender: SendRequest<Upload>,
    /// Counts for as long as the answer comes.
    pub stream: Stream,
    /// Whether the connection was there already.
    pub reused: bool,
}

impl Streams {
    fn origins(&self) -> MutexGuard<'_, HashMap<Origin, Arc<Connections>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a connection that is there, or on a new one that `connect` makes. Others wait meanwhile, and share it.
    pub async fn place<E>(
        &self,
        origin: Origin,
        fresh: bool,
        connect: impl Future<Output = Result<SendRequest<Upload>, E>>,
    ) -> Result<Place, E> {
        let connections = self.origins().entry(origin).or_default().clone();
        let mut connections = connections.lock().await;
        connections.retain(|shared| !shared.sender.is_closed());
        let has_room = |shared: &&mut Shared| shared.open.load(Ordering::Relaxed) < PER_CONNECTION;
        if !fresh && let Some(shared) = connections.iter_mut().find(has_room) {
            shared.idle = false;
            return Ok(Place {
                sender: shared.sender.clone(),
                stream: Stream::of(&shared.open),
                reused: true,
            });
        }
        let sender = connect.await?;
        let open = Arc::<AtomicUsize>::default();
        let stream = Stream::of(&open);
        if connections.len() < PER_ORIGIN {
            // First: a connection that was made because the others failed is the one to try next.
            connections.insert(0, Shared { sender: sender.clone(), open, idle: false });
        }
        Ok(Place { sender, stream, reused: false })
    }

    /// Closes connections that had nothing to do since the last sweep.
    pub fn sweep(&self) {
        self.origins().retain(|_, connections| {
            // What is locked is in use.
            let Ok(mut connections) = connections.try_lock() else { return true };
            connections.retain_mut(|shared| {
                let was_idle = std::mem::replace(&mut shared.idle, shared.open.load(Ordering::Relaxed) == 0);
                !(shared.sender.is_closed() || was_idle && shared.idle)
            });
            !connections.is_empty()
        });
    }
}
