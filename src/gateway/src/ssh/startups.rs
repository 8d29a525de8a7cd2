//! Connections that have not authenticated yet: how many there may be.
//!
//! OpenSSH's `MaxStartups` refuses newcomers at random. Here the connection that has been at it longest makes room:
//! an honest client is through within a second, and those that hold on to their places lose them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::stream::Line;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all.
    pub total: usize,
    /// Of one source.
    pub per_source: usize,
}

/// Those that have not authenticated yet. Clones share them.
#[derive(Clone)]
pub struct Startups {
    limits: Limits,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// By age.
    all: BTreeMap<u64, (Option<Source>, Arc<Line>)>,
    sources: HashMap<Source, BTreeSet<u64>>,
}

/// One address, or one network of IPv6 as a provider gives it to one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_bits().into()),
            // 2000::/3 and all others are above the addresses of IPv4.
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64 | 1 << 63),
        }
    }
}

impl Startups {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, inner: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, and cuts the line of the oldest one where there is no more.
    /// Without an address (a load balancer has not told it yet) only the total counts.
    pub fn enter(&self, address: Option<IpAddr>, line: Arc<Line>) -> Startup {
        let source = address.map(Source::from);
        let mut inner = self.inner();
        while let Some(oldest) = source.and_then(|source| inner.oldest(source, self.limits.per_source)) {
            inner.cut(Some(oldest));
        }
        while inner.all.len() >= self.limits.total {
            let oldest = inner.all.keys().next().copied();
            inner.cut(oldest);
        }
        let number = inner.next;
        inner.next += 1;
        inner.all.insert(number, (source, line));
        if let Some(source) = source {
            inner.sources.entry(source).or_default().insert(number);
        }
        Startup { startups: self.clone(), number }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.inner().all.len()
    }
}

impl Inner {
    /// The oldest one of a source that has `limit` or more.
    fn oldest(&self, source: Source, limit: usize) -> Option<u64> {
        let all = self.sources.get(&source).filter(|all| all.len() >= limit)?;
        all.first().copied()
    }

    fn cut(&mut self, number: Option<u64>) {
        if let Some(line) = number.and_then(|number| self.remove(number)) {
            line.cut();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Line>> {
        let (source, line) = self.all.remove(&number)?;
        if let Some(source) = source
            && let Some(of_source) = self.sources.get_mut(&source)
        {
            of_source.remove(&number);
            if of_source.is_empty() {
                self.sources.remove(&source);
            }
        }
        Some(line)
    }
}

/// A place, held until it is dropped.
pub struct Startup {
    startups: Startups,
    number: u64,
}

impl Drop for Startup {
    fn drop(&mut self) {
        self.startups.inner().remove(self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn startups() -> Startups {
        Startups::new(Limits { total: 4, per_source: 2 })
    }

    fn enter(startups: &Startups, address: &str) -> (Startup, Arc<Line>) {
        let line = Arc::new(Line::default());
        (startups.enter(Some(address.parse().unwrap()), line.clone()), line)
    }

    #[test]
    fn the_oldest_of_a_source_makes_room_and_others_are_untouched() {
        let startups = startups();
        let other = enter(&startups, "192.0.2.9");
        let mine: Vec<_> = (0..3).map(|_| enter(&startups, "192.0.2.1")).collect();
        assert_eq!(mine.iter().map(|(_, line)| line.is_cut()).collect::<Vec<_>>(), [true, false, false]);
        assert!(!other.1.is_cut());
    }

    #[test]
    fn the_oldest_of_all_makes_room_when_sources_are_many() {
        let startups = startups();
        let all: Vec<_> = (0..5).map(|n| enter(&startups, &format!("192.0.2.{n}"))).collect();
        assert_eq!(all.iter().filter(|(_, line)| line.is_cut()).count(), 1);
        assert!(all[0].1.is_cut());
        assert_eq!(startups.count(), 4);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_ipv4() {
        let startups = startups();
        let all: Vec<_> = (1..4).map(|n| enter(&startups, &format!("2001:db8::{n}"))).collect();
        assert!(all[0].1.is_cut());
        assert_eq!(
            Source::from("::ffff:192.0.2.1".parse::<IpAddr>().unwrap()),
            Source::from("192.0.2.1".parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn a_place_is_free_again_once_it_is_dropped() {
        let startups = startups();
        drop(enter(&startups, "192.0.2.1"));
        assert_eq!((startups.count(), startups.inner().sources.len()), (0, 0));
    }
}
