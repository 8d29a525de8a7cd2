//! Connections that have not authenticated yet: how many there may be.
//!
//! OpenSSH's `MaxStartups` refuses newcomers at random. Here a connection that is there makes room: of those that have
//! come least far the one that has been at it longest. An honest client is through within a second, and those that hold
//! on to their places lose them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::stream::Line;

/// Bytes of the longest identification string: RFC 4253, section 4.2. Whoever has sent more begins to exchange keys.
const LONGEST_IDENTIFICATION: u64 = 255;

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
    /// In the order in which they make room.
    all: BTreeMap<Rank, (Option<Source>, Arc<Line>)>,
    sources: HashMap<Source, BTreeSet<Rank>>,
}

/// How far a connection has come, and its number, which is its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(Stage, u64);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has been accepted.
    Begun,
    /// Keys are exchanged, and it tries to authenticate.
    Authenticating,
    /// It has offered a key that may enter.
    Known,
    /// It may jump, and has not reached a Spark yet, so that it counts for no namespace.
    Jumping,
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

    /// Takes a place, and cuts another line where there is no more.
    /// Without an address (a load balancer has not told it yet) only the total counts.
    pub fn enter(&self, address: Option<IpAddr>, line: Arc<Line>) -> Startup {
        let source = address.map(Source::from);
        let mut inner = self.inner();
        while let Some(first) = source.and_then(|source| inner.first_of(source, self.limits.per_source)) {
            inner.cut(first);
        }
        while let Some(first) = inner.first(self.limits.total) {
            inner.cut(first);
        }
        let rank = Rank(Stage::Begun, inner.next);
        inner.next += 1;
        inner.insert(rank, source, line);
        Startup { startups: self.clone(), rank }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.inner().all.len()
    }
}

impl Inner {
    fn insert(&mut self, rank: Rank, source: Option<Source>, line: Arc<Line>) {
        self.all.insert(rank, (source, line));
        if let Some(source) = source {
            self.sources.entry(source).or_default().insert(rank);
        }
    }

    /// The first to make room of all, if there are `limit` or more.
    fn first(&self, limit: usize) -> Option<Rank> {
        if self.all.len() < limit { None } else { self.makes_room(self.all.keys().copied()) }
    }

    /// The first to make room of a source that has `limit` or more.
    fn first_of(&self, source: Source, limit: usize) -> Option<Rank> {
        let all = self.sources.get(&source).filter(|all| all.len() >= limit)?;
        self.makes_room(all.iter().copied())
    }

    /// The first one that has not even begun to exchange keys, else the first one.
    fn makes_room(&self, ranks: impl Iterator<Item = Rank> + Clone) -> Option<Rank> {
        let mut begun = ranks.clone().take_while(|Rank(stage, _)| *stage == Stage::Begun);
        let says_nothing = |rank: &Rank| {
            self.all.get(rank).is_some_and(|(_, line)| line.bytes().0 <= LONGEST_IDENTIFICATION)
        };
        begun.find(says_nothing).or_else(|| ranks.clone().next())
    }

    fn cut(&mut self, rank: Rank) {
        if let Some((_, line)) = self.remove(rank) {
            line.cut();
        }
    }

    fn remove(&mut self, rank: Rank) -> Option<(Option<Source>, Arc<Line>)> {
        let (source, line) = self.all.remove(&rank)?;
        if let Some(source) = source
            && let Some(of_source) = self.sources.get_mut(&source)
        {
            of_source.remove(&rank);
            if of_source.is_empty() {
                self.sources.remove(&source);
            }
        }
        Some((source, line))
    }
}

/// A place, held until it is dropped.
pub struct Startup {
    startups: Startups,
    rank: Rank,
}

impl Startup {
    /// It has come this far.
    pub fn reached(&mut self, stage: Stage) {
        let Rank(before, number) = self.rank;
        if stage <= before {
            return;
        }
        let mut inner = self.startups.inner();
        if let Some((source, line)) = inner.remove(self.rank) {
            self.rank = Rank(stage, number);
            inner.insert(self.rank, source, line);
        }
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        self.startups.inner().remove(self.rank);
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
    fn whoever_has_come_further_stays_longer() {
        let startups = startups();
        let mut all: Vec<_> = (0..4).map(|n| enter(&startups, &format!("192.0.2.{n}"))).collect();
        all[0].0.reached(Stage::Known);
        all[1].0.reached(Stage::Authenticating);
        all.extend((4..7).map(|n| enter(&startups, &format!("192.0.2.{n}"))));
        let cut: Vec<_> = all.iter().map(|(_, line)| line.is_cut()).collect();
        assert_eq!(cut, [false, false, true, true, true, false, false]);
        drop(all);
        assert_eq!((startups.count(), startups.inner().sources.len()), (0, 0));
    }

    #[tokio::test]
    async fn whoever_has_begun_to_exchange_keys_stays_longer_than_who_says_nothing() {
        let startups = startups();
        let all: Vec<_> = (0..4).map(|n| enter(&startups, &format!("192.0.2.{n}"))).collect();
        let speaks = [0; LONGEST_IDENTIFICATION as usize + 1];
        let mut stream = super::super::stream::Watched::new(speaks.as_slice(), all[0].1.clone());
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        let _another = enter(&startups, "192.0.2.5");
        assert_eq!(
            all.iter().map(|(_, line)| line.is_cut()).collect::<Vec<_>>(),
            [false, true, false, false]
        );
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
