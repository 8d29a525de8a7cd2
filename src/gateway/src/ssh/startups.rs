//! Connections that have not authenticated yet: how many there may be.
//!
//! OpenSSH's `MaxStartups` refuses newcomers at random. Here a connection that is there makes room: one of the source that
//! has most of them, and of those that have come least far the one that has been at it longest. An honest client is
//! through within a second, and those that hold on to their places lose them. How far one has come counts within its
//! source alone: anybody can offer a key that may enter, and would else hold all places against whoever has just come.

use std::{
    cmp::Reverse,
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
    all: usize,
    sources: HashMap<Option<Source>, Connections>,
    /// The sources in the order in which they make room.
    order: BTreeSet<Order>,
}

/// Those of one source, in the order in which they make room.
type Connections = BTreeMap<Rank, Arc<Line>>;

/// The one with most of them comes first; of several the one whose own first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    connections: Reverse<usize>,
    first: Rank,
    source: Option<Source>,
}

impl Order {
    fn of(source: Option<Source>, all: &Connections) -> Option<Self> {
        let first = *all.keys().next()?;
        Some(Self { connections: Reverse(all.len()), first, source })
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Those without an address (a load balancer has not told it yet) are one source, for which only the total counts.
    pub fn enter(&self, address: Option<IpAddr>, line: Arc<Line>) -> Startup {
        let source = address.map(Source::from);
        let mut inner = self.inner();
        let own = inner.sources.get(&source).map_or(0, BTreeMap::len);
        let has_too_many = source.is_some() && own >= self.limits.per_source;
        let is_full = inner.all >= self.limits.total;
        let first = match (has_too_many, is_full) {
            (true, _) => inner.makes_room_of(source),
            (false, true) => inner.makes_room(),
            (false, false) => None,
        };
        if let Some(first) = first {
            inner.cut(first);
        }
        let rank = Rank(Stage::Begun, inner.next);
        inner.next += 1;
        inner.insert(source, rank, line);
        Startup { startups: self.clone(), source, rank }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.inner().all
    }
}

impl Inner {
    fn insert(&mut self, source: Option<Source>, rank: Rank, line: Arc<Line>) {
        self.change(source, |of_source| of_source.insert(rank, line));
    }

    fn remove(&mut self, source: Option<Source>, rank: Rank) -> Option<Arc<Line>> {
        self.change(source, |of_source| of_source.remove(&rank))
    }

    fn change<T>(&mut self, source: Option<Source>, change: impl FnOnce(&mut Connections) -> T) -> T {
        let of_source = self.sources.entry(source).or_default();
        self.all -= of_source.len();
        if let Some(order) = Order::of(source, of_source) {
            self.order.remove(&order);
        }
        let changed = change(of_source);
        self.all += of_source.len();
        if let Some(order) = Order::of(source, of_source) {
            self.order.insert(order);
        } else {
            self.sources.remove(&source);
        }
        changed
    }

    /// Of the sources that have most the first connection that says nothing, else the first one.
    fn makes_room(&self) -> Option<(Option<Source>, Rank)> {
        let most = self.order.first()?.connections;
        let mut largest = self.order.iter().take_while(|order| order.connections == most);
        let silent =
            largest.find_map(|order| Some((order.source, silent(self.sources.get(&order.source)?)?)));
        silent.or_else(|| self.order.first().map(|order| (order.source, order.first)))
    }

    fn makes_room_of(&self, source: Option<Source>) -> Option<(Option<Source>, Rank)> {
        let of_source = self.sources.get(&source)?;
        let rank = silent(of_source).or_else(|| of_source.keys().next().copied())?;
        Some((source, rank))
    }

    fn cut(&mut self, (source, rank): (Option<Source>, Rank)) {
        if let Some(line) = self.remove(source, rank) {
            line.cut();
        }
    }
}

/// The first one that has not even begun to exchange keys.
fn silent(of_source: &Connections) -> Option<Rank> {
    let mut begun = of_source.iter().take_while(|(Rank(stage, _), _)| *stage == Stage::Begun);
    begun.find(|(_, line)| line.bytes().0 <= LONGEST_IDENTIFICATION).map(|(rank, _)| *rank)
}

/// A place, held until it is dropped.
pub struct Startup {
    startups: Startups,
    source: Option<Source>,
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
        if let Some(line) = inner.remove(self.source, self.rank) {
            self.rank = Rank(stage, number);
            inner.insert(self.source, self.rank, line);
        }
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        self.startups.inner().remove(self.source, self.rank);
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

    #[test]
    fn sources_with_many_known_keys_make_room_for_each_that_has_just_come() {
        let startups = Startups::new(Limits { total: 8, per_source: 4 });
        let mut many: Vec<_> = (0..8).map(|n| enter(&startups, &format!("192.0.2.{}", n % 2))).collect();
        many.iter_mut().for_each(|(startup, _)| startup.reached(Stage::Known));
        let new: Vec<_> = (10..14).map(|n| enter(&startups, &format!("192.0.2.{n}"))).collect();
        assert!(new.iter().all(|(_, line)| !line.is_cut()));
        let cut: Vec<_> = many.iter().map(|(_, line)| line.is_cut()).collect();
        assert_eq!(
            cut,
            [true, true, true, true, false, false, false, false],
            "each in its turn, the oldest first"
        );
        assert_eq!(startups.count(), 8);
        drop((many, new));
        let inner = startups.inner();
        assert!(inner.sources.is_empty() && inner.order.is_empty());
    }

    #[test]
    fn whoever_a_load_balancer_has_not_told_of_counts_as_one_source() {
        let startups = startups();
        let untold: Vec<_> = (0..3).map(|_| Arc::<Line>::default()).collect();
        let _places: Vec<_> = untold.iter().map(|line| startups.enter(None, line.clone())).collect();
        let told: Vec<_> = (0..2).map(|n| enter(&startups, &format!("192.0.2.{n}"))).collect();
        assert!(untold[0].is_cut() && !untold[1].is_cut() && told.iter().all(|(_, line)| !line.is_cut()));
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
