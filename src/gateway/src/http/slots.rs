//! How many connections there may be, in all and from one source, and how many of its requests may wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bits of an IPv6 address that say whose it is; the rest its owner chooses.
const IPV6_PREFIX: u32 = 64;

/// How much one source may have at once.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Connections.
    pub connections: usize,
    /// Requests that wait for an answer.
    pub requests: usize,
}

/// What a source has.
#[derive(Default)]
struct Source {
    connections: usize,
    requests: usize,
}

type Sources = Arc<Mutex<HashMap<IpAddr, Source>>>;

/// The connections of one server.
#[derive(Clone)]
pub struct Slots {
    all: Arc<Semaphore>,
    by_source: Sources,
    share: Share,
    now: Gauge,
}

/// One connection. It counts for as long as this lives.
pub struct Slot {
    source: IpAddr,
    /// How many others of its source were there when it came.
    pub others: usize,
    by_source: Sources,
    requests: usize,
    now: Gauge,
    _permit: OwnedSemaphorePermit,
}

/// A request that waits for an answer. It counts for as long as this lives.
pub struct Waiting(Arc<Slot>);

impl Slots {
    /// So many in all, and so many from one source. `now` shows how many there are.
    pub fn new(all: usize, share: Share, now: Gauge) -> Self {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Self { all, by_source: Arc::default(), share, now }
    }

    /// Waits until there may be one more.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// Counts a connection; nothing when its source has too many.
    pub fn take(&self, permit: OwnedSemaphorePermit, from: IpAddr) -> Option<Slot> {
        let source = source(from);
        let mut by_source = lock(&self.by_source);
        let others = by_source.get(&source).map_or(0, |source| source.connections);
        if others >= self.share.connections {
            return None;
        }
        by_source.entry(source).or_default().connections += 1;
        drop(by_source);
        self.now.inc();
        Some(Slot {
            source,
            others,
            by_source: self.by_source.clone(),
            requests: self.share.requests,
            now: self.now.clone(),
            _permit: permit,
        })
    }
}

impl Slot {
    /// Counts a request; nothing when too many of its source wait.
    pub fn request(self: &Arc<Self>) -> Option<Waiting> {
        let mut by_source = lock(&self.by_source);
        let source = by_source.get_mut(&self.source).filter(|source| source.requests < self.requests)?;
        source.requests += 1;
        Some(Waiting(self.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(source) = lock(&self.0.by_source).get_mut(&self.0.source) {
            source.requests -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.now.dec();
        let mut by_source = lock(&self.by_source);
        if let Some(source) = by_source.get_mut(&self.source) {
            source.connections -= 1;
            if source.connections == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

fn lock(sources: &Sources) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> IPV6_PREFIX << IPV6_PREFIX).into()),
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn share(connections: usize) -> Share {
        Share { connections, requests: 3 }
    }

    async fn take(slots: &Slots, from: &str) -> Option<Slot> {
        slots.take(slots.room().await.unwrap(), from.parse().unwrap())
    }

    #[tokio::test]
    async fn a_source_has_its_share_and_no_more() {
        let slots = Slots::new(10, share(2), Gauge::default());
        let first = take(&slots, "10.0.0.1").await.unwrap();
        let _second = take(&slots, "::ffff:10.0.0.1").await.unwrap();
        assert!(take(&slots, "10.0.0.1").await.is_none());
        assert!(take(&slots, "10.0.0.2").await.is_some());
        drop(first);
        assert!(take(&slots, "10.0.0.1").await.is_some());
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_network_are_one_source() {
        let slots = Slots::new(10, share(1), Gauge::default());
        let _first = take(&slots, "2001:db8::1").await.unwrap();
        assert!(take(&slots, "2001:db8::ffff:2").await.is_none());
        assert!(take(&slots, "2001:db8:0:1::1").await.is_some());
    }

    #[tokio::test]
    async fn all_connections_of_a_source_share_its_requests() {
        let slots = Slots::new(10, share(2), Gauge::default());
        let first = Arc::new(take(&slots, "10.0.0.1").await.unwrap());
        let second = Arc::new(take(&slots, "10.0.0.1").await.unwrap());
        let other = Arc::new(take(&slots, "10.0.0.2").await.unwrap());
        let mut waiting: Vec<_> = [&first, &first, &second].map(|slot| slot.request().unwrap()).into();
        assert!(first.request().is_none() && second.request().is_none());
        assert!(other.request().is_some());
        waiting.pop();
        assert!(first.request().is_some());
    }

    #[tokio::test]
    async fn sources_that_have_gone_are_forgotten_and_their_room_is_free() {
        let slots = Slots::new(1, share(1), Gauge::default());
        for last in 1..=9 {
            take(&slots, &format!("10.0.0.{last}")).await.unwrap();
        }
        assert!(lock(&slots.by_source).is_empty());
        assert_eq!((slots.all.available_permits(), slots.now.get()), (1, 0));
    }
}
