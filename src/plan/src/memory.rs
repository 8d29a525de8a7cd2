//! What the controller remembers between passes. Nothing depends on it but speed: after a restart everything is found
//! out from the API server again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sparks_api::{NamespacedName, Uid};

use crate::{index::Reference, pool::Claims, progress::Blocked, spark::Start, world::Now};

/// How long a write may take to come back through the watch before it is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// What the controller remembers between passes.
#[derive(Default)]
pub struct Memory(Mutex<Inner>);

/// Moments are of the steady clock.
#[derive(Default)]
struct Inner {
    starts: HashMap<Uid, StartEntry>,
    /// Pod to Spark: claimed, and maybe not known yet.
    claims: HashMap<Uid, (Uid, Duration)>,
    /// Pod to its pool and node: created, and maybe not known yet.
    created: HashMap<NamespacedName, (NamespacedName, String, Duration)>,
    /// Namespace to the first and the last claim of the latest burst in it.
    bursts: HashMap<Arc<str>, (Duration, Duration)>,
    /// Services that were created and may not be known yet.
    services: HashMap<NamespacedName, Duration>,
    /// What the API server refused lately.
    refused: HashMap<Reference, Blocked>,
}

struct StartEntry {
    since: Duration,
    claim: Option<Duration>,
    warm: bool,
    total: Option<Duration>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of this Spark that goes on; begins now when there was none.
    pub fn start(&self, spark: &Uid, now: Now) -> Start {
        let mut inner = self.inner();
        let new = || StartEntry { since: now.steady, claim: None, warm: false, total: None };
        let entry = inner.starts.entry(spark.clone()).or_insert_with(new);
        let age = entry.total.unwrap_or_else(|| now.since(entry.since));
        Start { age, claim: entry.claim, warm: entry.warm }
    }

    /// Pod and Volume of this start are written.
    pub fn claimed(&self, spark: &Uid, warm: bool, now: Now) {
        if let Some(entry) = self.inner().starts.get_mut(spark) {
            (entry.claim, entry.warm) = (Some(now.since(entry.since)), warm);
        }
    }

    /// The Spark is ready; it may take a while until that is known, and the time shall not go on meanwhile.
    pub fn ready(&self, spark: &Uid, now: Now) {
        if let Some(entry) = self.inner().starts.get_mut(spark) {
            entry.total.get_or_insert_with(|| now.since(entry.since));
        }
    }

    /// The start is over.
    pub fn started(&self, spark: &Uid) {
        self.inner().starts.remove(spark);
    }

    /// Takes a pod for a Spark, unless another one has it.
    pub fn reserve(&self, pod: &Uid, spark: &Uid, now: Now) -> bool {
        let mut inner = self.inner();
        match inner.claims.get(pod) {
            Some((holder, _)) if holder != spark => false,
            _ => {
                inner.claims.insert(pod.clone(), (spark.clone(), now.steady));
                true
            }
        }
    }

    /// Gives a pod back after a lost race, or because it is known with its claim, or gone.
    pub fn release(&self, pod: &Uid) {
        self.inner().claims.remove(pod);
    }

    /// The Spark for which this pod is reserved.
    pub fn holder(&self, pod: &Uid) -> Option<Uid> {
        self.inner().claims.get(pod).map(|(holder, _)| holder.clone())
    }

    /// A warm pod of this namespace was taken.
    pub fn note_claim(&self, namespace: &str, now: Now) {
        let goes_on = self.claims(namespace, now).go_on();
        let mut inner = self.inner();
        let burst = inner.bursts.entry(namespace.into()).or_insert((now.steady, now.steady));
        *burst = if goes_on { (burst.0, now.steady) } else { (now.steady, now.steady) };
    }

    /// The latest claims of warm pods of this namespace.
    pub fn claims(&self, namespace: &str, now: Now) -> Claims {
        let burst = self.inner().bursts.get(namespace).copied();
        burst.map_or(Claims::NONE, |(first, last)| Claims {
            since_last: now.since(last),
            since_first: now.since(first),
        })
    }

    /// Whether a Service of this name is still to be made, as far as this memory goes; notes that it is being made.
    pub fn make_service(&self, name: &NamespacedName, now: Now) -> bool {
        let mut inner = self.inner();
        inner.services.retain(|_, at| now.since(*at) < FORGET_AFTER);
        inner.services.insert(name.clone(), now.steady).is_none()
    }

    /// The Service is known, or gone, or could not be made.
    pub fn forget_service(&self, name: &NamespacedName) {
        self.inner().services.remove(name);
    }

    /// A pod was created for a pool.
    pub fn created(&self, pod: NamespacedName, pool: NamespacedName, node: String, now: Now) {
        self.inner().created.insert(pod, (pool, node, now.steady));
    }

    /// Nodes of the pods that were created for this pool and that `seen` doesn't know yet.
    pub fn expected(
        &self,
        pool: &NamespacedName,
        seen: impl Fn(&NamespacedName) -> bool,
        now: Now,
    ) -> Vec<String> {
        let mut inner = self.inner();
        inner.created.retain(|pod, (_, _, at)| now.since(*at) < FORGET_AFTER && !seen(pod));
        inner.created.values().filter(|(of, ..)| of == pool).map(|(_, node, _)| node.clone()).collect()
    }

    /// What the API server said to the writes of this object's last pass; none when it took them.
    pub fn answered(&self, object: &Reference, refusal: Option<Blocked>) {
        let mut inner = self.inner();
        match refusal {
            Some(blocked) => drop(inner.refused.insert(object.clone(), blocked)),
            None => drop(inner.refused.remove(object)),
        }
    }

    /// What the API server refused at this object's last pass.
    pub fn refusal(&self, object: &Reference) -> Option<Blocked> {
        self.inner().refused.get(object).cloned()
    }

    /// Objects of this kind whose pods are refused.
    pub fn refused_pods(&self, kind: &str) -> Vec<NamespacedName> {
        let inner = self.inner();
        let mut names: Vec<_> =
            inner.refused.keys().filter(|of| of.kind == kind).map(|of| of.name.clone()).collect();
        names.sort();
        names
    }

    /// The Spark is gone.
    pub fn forget(&self, spark: &Uid, now: Now) {
        let mut inner = self.inner();
        inner.starts.remove(spark);
        inner.claims.retain(|_, (holder, at)| holder != spark && now.since(*at) < FORGET_AFTER);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(millis: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, steady: Duration::from_millis(millis) }
    }

    fn uid(text: &str) -> Uid {
        Uid::new(text).unwrap()
    }

    #[test]
    fn two_sparks_never_get_the_same_pod() {
        let (memory, pod, a, b) = (Memory::default(), uid("pod"), uid("a"), uid("b"));
        assert!(
            memory.reserve(&pod, &a, at(0)) && memory.reserve(&pod, &a, at(1)),
            "the same Spark may ask again"
        );
        assert!(!memory.reserve(&pod, &b, at(2)));
        memory.release(&pod);
        assert!(memory.reserve(&pod, &b, at(3)));
    }

    #[test]
    fn claims_without_a_lull_are_one_burst() {
        let memory = Memory::default();
        assert_eq!(memory.claims("team", at(0)), Claims::NONE);
        memory.note_claim("team", at(0));
        memory.note_claim("team", at(500));
        let claims = memory.claims("team", at(600));
        assert_eq!((claims.since_last.as_millis(), claims.since_first.as_millis()), (100, 600));
        memory.note_claim("team", at(5000));
        assert_eq!(memory.claims("team", at(5000)).since_first, Duration::ZERO);
        assert_eq!(memory.claims("other", at(600)), Claims::NONE);
    }

    #[test]
    fn a_service_on_its_way_is_not_made_twice_but_not_waited_for_for_ever() {
        let (memory, api) = (Memory::default(), NamespacedName::new("team", "api"));
        assert!(memory.make_service(&api, at(0)) && !memory.make_service(&api, at(1)));
        assert!(memory.make_service(&NamespacedName::new("other", "api"), at(1)));
        memory.forget_service(&api);
        assert!(memory.make_service(&api, at(2)) && memory.make_service(&api, at(40_000)));
    }

    #[test]
    fn a_start_takes_no_longer_than_until_it_was_ready() {
        let (memory, spark) = (Memory::default(), uid("a"));
        memory.start(&spark, at(0));
        memory.claimed(&spark, true, at(5));
        memory.ready(&spark, at(20));
        let start = memory.start(&spark, at(90));
        assert_eq!(
            (start.age.as_millis(), start.claim.map(|c| c.as_millis()), start.warm),
            (20, Some(5), true)
        );
    }
}
