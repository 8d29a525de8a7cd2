//! Connections to Sparks that wait for their next request.
//!
//! A service may close a connection that waits at the moment at which a request is written into it. Such a request may be sent
//! again only if that can do no harm (RFC 9110, section 9.2.2). The others get a connection that was in use a moment ago, which
//! no service's idle timeout closes and of whose end the kernel has not heard, or a new one.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1::SendRequest;
use kube::ResourceExt;
use sparks_api::Spark;
use tokio::time::Instant;

use super::{body::Upload, streams::Stream, wire::Wire};

/// No service closes a connection that was used so lately: the shortest idle timeouts are of seconds.
pub const RECENT: Duration = Duration::from_millis(500);
/// A connection that waited longer is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Connections that wait for one Spark, and for all.
const PER_ORIGIN: usize = 64;
const MOST: usize = 4096;

/// One pod of one Spark. An address that another pod gets later is another origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    pod: u64,
}

impl Origin {
    /// The pod that is this Spark now.
    pub fn new(spark: &Spark, address: SocketAddr) -> Self {
        let mut pod = DefaultHasher::new();
        spark.uid().hash(&mut pod);
        spark.status.as_ref().and_then(|status| status.pod_name.as_deref()).hash(&mut pod);
        Self { address, pod: pod.finish() }
    }
}

/// Connections of HTTP/1.1 that wait for their next request.
#[derive(Default)]
pub struct Pool(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    by_origin: HashMap<Origin, Vec<Idle>>,
    count: usize,
}

struct Idle {
    held: Held,
    since: Instant,
}

/// A connection of HTTP/1.1.
pub struct Held {
    /// Takes requests.
    pub sender: SendRequest<Upload>,
    /// What is under it.
    pub wire: Wire,
}

impl Pool {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, if it was used within `age`.
    pub fn take(&self, origin: Origin, age: Duration) -> Option<Held> {
        let mut waiting = self.waiting();
        let idle = waiting.by_origin.get_mut(&origin)?;
        let before = idle.len();
        idle.retain(|idle| !idle.held.sender.is_closed());
        let usable = |idle: &Idle| {
            idle.held.sender.is_ready() && idle.since.elapsed() < age && idle.held.wire.is_quiet()
        };
        let found = idle.iter().rposition(usable).map(|at| idle.remove(at));
        let (after, is_empty) = (idle.len(), idle.is_empty());
        waiting.count -= before - after;
        if is_empty {
            waiting.by_origin.remove(&origin);
        }
        found.map(|idle| idle.held)
    }

    /// The connection may be used again.
    fn put(&self, origin: Origin, held: Held) {
        let mut waiting = self.waiting();
        if held.sender.is_closed() || waiting.count >= MOST {
            return;
        }
        let idle = waiting.by_origin.entry(origin).or_default();
        let replaced = idle.len() >= PER_ORIGIN;
        if replaced {
            idle.remove(0);
        }
        idle.push(Idle { held, since: Instant::now() });
        waiting.count += usize::from(!replaced);
    }

    /// Closes what waited for long.
    pub fn sweep(&self) {
        let mut waiting = self.waiting();
        let mut count = 0;
        waiting.by_origin.retain(|_, idle| {
            idle.retain(|idle| !idle.held.sender.is_closed() && idle.since.elapsed() < IDLE);
            count += idle.len();
            !idle.is_empty()
        });
        waiting.count = count;
    }
}

/// The connection that an answer comes by.
pub enum Lease {
    /// It is no more.
    Over,
    /// It goes back to the pool.
    Http1 {
        /// Which pool.
        pool: Arc<Pool>,
        /// For which pod.
        origin: Origin,
        /// The connection.
        held: Held,
    },
    /// A stream of a connection that others share.
    Http2(#[allow(dead_code, reason = "counts for as long as it lives")] Stream),
}

impl Lease {
    /// The answer has come to its end.
    pub fn end(&mut self) {
        if let Self::Http1 { pool, origin, held } = std::mem::replace(self, Self::Over) {
            pool.put(origin, held);
        }
    }

    /// The answer broke off.
    pub fn spoil(&mut self) {
        *self = Self::Over;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::dial;

    impl Pool {
        /// Connections, and origins.
        fn size(&self) -> (usize, usize) {
            let waiting = self.waiting();
            (waiting.count, waiting.by_origin.len())
        }
    }

    /// A connection that has been used once, as the pool has it, and its other end.
    async fn used(pool: &Pool, origin: Origin) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut held = dial::http1(near).await.unwrap();
        let request = Request::get("/").header("host", "h").body(Upload::nothing()).unwrap();
        let answer = held.sender.send_request(request);
        let serve = async {
            let mut head = [0; 18];
            far.read_exact(&mut head).await.unwrap();
            far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(answer, serve);
        assert_eq!(answer.unwrap().status(), 204);
        held.sender.ready().await.unwrap();
        pool.put(origin, held);
        far
    }

    fn origin(port: u16) -> Origin {
        Origin { address: ([127, 0, 0, 1], port).into(), pod: 0 }
    }

    #[tokio::test]
    async fn a_connection_is_for_its_own_pod_only() {
        let pool = Pool::default();
        let _far = used(&pool, origin(1)).await;
        assert!(pool.take(origin(2), Duration::MAX).is_none());
        assert!(pool.take(Origin { pod: 1, ..origin(1) }, Duration::MAX).is_none());
        assert!(pool.take(origin(1), Duration::MAX).is_some());
        assert!(pool.take(origin(1), Duration::MAX).is_none());
        assert_eq!(pool.size(), (0, 0));
    }

    #[tokio::test]
    async fn a_request_that_can_not_be_repeated_gets_only_what_was_used_lately() {
        let pool = Pool::default();
        let _far = used(&pool, origin(1)).await;
        tokio::time::pause();
        tokio::time::advance(RECENT).await;
        assert!(pool.take(origin(1), RECENT).is_none());
        assert!(pool.take(origin(1), Duration::MAX).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_the_service_closed_is_not_taken_though_no_task_has_seen_it() {
        let pool = Pool::default();
        let far = used(&pool, origin(1)).await;
        let wire = pool.waiting().by_origin[&origin(1)][0].held.wire.clone();
        drop(far);
        // On this single thread the task of the connection doesn't run meanwhile.
        while wire.is_quiet() {}
        assert!(pool.take(origin(1), Duration::MAX).is_none());
    }

    #[tokio::test]
    async fn what_waits_too_long_is_closed_and_there_is_a_bound() {
        let pool = Pool::default();
        let mut ends = Vec::new();
        for _ in 0..PER_ORIGIN + 3 {
            ends.push(used(&pool, origin(1)).await);
        }
        assert_eq!(pool.size(), (PER_ORIGIN, 1));
        tokio::time::pause();
        tokio::time::advance(IDLE).await;
        pool.sweep();
        assert_eq!(pool.size(), (0, 0));
    }
}
