//! What the controller remembers between passes. Nothing depends on it but speed: after a restart everything is read
//! from the API server again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sparks_plan::{pool::Claims, spark::Start};

/// How long a write may take to come back through the watch before it is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// First pause after an error; doubled for each further one of the same object.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause after an error.
const LAST_BACKOFF: Duration = Duration::from_secs(60);

/// What the controller remembers between passes.
#[derive(Default)]
pub struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    starts: HashMap<String, StartEntry>,
    /// Pod uid to Spark uid: claimed, and maybe not in the cache yet.
    claims: HashMap<String, (String, Instant)>,
    /// Pod name (with namespace) to node: created for a pool, and maybe not in the cache yet.
    created: HashMap<String, (String, Instant)>,
    /// Namespace to the first and the last claim of the latest burst in it.
    bursts: HashMap<String, (Instant, Instant)>,
    /// Services (namespace, name) that were created and may not be in the cache yet.
    services: HashMap<(String, String), Instant>,
    failures: HashMap<String, u32>,
}

struct StartEntry {
    since: Instant,
    claim: Option<Duration>,
    warm: bool,
    total: Option<Duration>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of this Spark that goes on; begins now when there was none.
    pub fn start(&self, spark_uid: &str) -> Start {
        let mut inner = self.inner();
        let new = || StartEntry { since: Instant::now(), claim: None, warm: false, total: None };
        let entry = inner.starts.entry(spark_uid.to_owned()).or_insert_with(new);
        Start {
            age: entry.total.unwrap_or_else(|| entry.since.elapsed()),
            claim: entry.claim,
            warm: entry.warm,
        }
    }

    /// Pod and Volume of this start are written.
    pub fn claimed(&self, spark_uid: &str, warm: bool) {
        if let Some(entry) = self.inner().starts.get_mut(spark_uid) {
            entry.claim = Some(entry.since.elapsed());
            entry.warm = warm;
        }
    }

    /// The Spark is ready; the cache may take a while to see it, and the time shall not go on meanwhile.
    pub fn ready(&self, spark_uid: &str) {
        if let Some(entry) = self.inner().starts.get_mut(spark_uid) {
            entry.total.get_or_insert_with(|| entry.since.elapsed());
        }
    }

    /// The start is over.
    pub fn started(&self, spark_uid: &str) {
        self.inner().starts.remove(spark_uid);
    }

    /// Takes a pod for a Spark, unless another one has it.
    pub fn reserve(&self, pod_uid: &str, spark_uid: &str) -> bool {
        let mut inner = self.inner();
        match inner.claims.get(pod_uid) {
            Some((holder, _)) if holder != spark_uid => false,
            _ => {
                inner.claims.insert(pod_uid.to_owned(), (spark_uid.to_owned(), Instant::now()));
                true
            }
        }
    }

    /// Gives a pod back after a lost race.
    pub fn release(&self, pod_uid: &str) {
        self.inner().claims.remove(pod_uid);
    }

    /// The Spark for which this pod is reserved.
    pub fn holder(&self, pod_uid: &str) -> Option<String> {
        self.inner().claims.get(pod_uid).map(|(holder, _)| holder.clone())
    }

    /// A warm pod of this namespace was taken.
    pub fn note_claim(&self, namespace: &str) {
        let (goes_on, now) = (self.claims(namespace).go_on(), Instant::now());
        let mut inner = self.inner();
        let burst = inner.bursts.entry(namespace.to_owned()).or_insert((now, now));
        *burst = if goes_on { (burst.0, now) } else { (now, now) };
    }

    /// The latest claims of warm pods of this namespace.
    pub fn claims(&self, namespace: &str) -> Claims {
        let burst = self.inner().bursts.get(namespace).copied();
        burst.map_or(Claims::NONE, |(first, last)| Claims {
            since_last: last.elapsed(),
            since_first: first.elapsed(),
        })
    }

    /// Whether a Service of this name is still to be made, as far as this memory goes; notes that it is being made.
    pub fn make_service(&self, namespace: &str, name: &str) -> bool {
        let mut inner = self.inner();
        inner.services.retain(|_, at| at.elapsed() < FORGET_AFTER);
        inner.services.insert((namespace.to_owned(), name.to_owned()), Instant::now()).is_none()
    }

    /// The Service is in the cache, or gone, or could not be made.
    pub fn forget_service(&self, namespace: &str, name: &str) {
        self.inner().services.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// A pod was created for a pool.
    pub fn created(&self, key: String, node: String) {
        self.inner().created.insert(key, (node, Instant::now()));
    }

    /// Nodes of the created pods whose key starts with `prefix` and that `seen` doesn't know yet.
    pub fn expected(&self, prefix: &str, seen: impl Fn(&str) -> bool) -> Vec<String> {
        let mut inner = self.inner();
        inner.created.retain(|key, (_, at)| at.elapsed() < FORGET_AFTER && !seen(key));
        inner
            .created
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(_, (node, _))| node.clone())
            .collect()
    }

    /// The pause after one more failure of this object.
    pub fn backoff(&self, uid: &str) -> Duration {
        let mut inner = self.inner();
        let failures = inner.failures.entry(uid.to_owned()).or_default();
        *failures += 1;
        FIRST_BACKOFF.saturating_mul(1 << (*failures - 1).min(16)).min(LAST_BACKOFF)
    }

    /// The object was reconciled without an error.
    pub fn succeeded(&self, uid: &str) {
        self.inner().failures.remove(uid);
    }

    /// The pod is in the cache with its claim, or gone: forget the reservation.
    pub fn claim_seen(&self, pod_uid: &str) {
        self.inner().claims.remove(pod_uid);
    }

    /// The Spark is gone.
    pub fn forget(&self, spark_uid: &str) {
        let mut inner = self.inner();
        inner.starts.remove(spark_uid);
        inner.failures.remove(spark_uid);
        inner.claims.retain(|_, (holder, at)| holder != spark_uid && at.elapsed() < FORGET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sparks_never_get_the_same_pod() {
        let memory = Memory::default();
        assert!(memory.reserve("pod", "a") && memory.reserve("pod", "a"), "the same Spark may ask again");
        assert!(!memory.reserve("pod", "b"));
        memory.release("pod");
        assert!(memory.reserve("pod", "b"));
    }

    #[test]
    fn claims_without_a_lull_are_one_burst() {
        let memory = Memory::default();
        assert_eq!(memory.claims("team"), Claims::NONE);
        memory.note_claim("team");
        let first = memory.claims("team").since_first;
        memory.note_claim("team");
        let claims = memory.claims("team");
        assert!(claims.since_first >= first && claims.since_first >= claims.since_last);
        assert_eq!(memory.claims("other"), Claims::NONE);
    }

    #[test]
    fn a_service_on_its_way_is_not_made_twice() {
        let memory = Memory::default();
        assert!(memory.make_service("team", "api") && !memory.make_service("team", "api"));
        assert!(memory.make_service("other", "api"));
        memory.forget_service("team", "api");
        assert!(memory.make_service("team", "api"));
    }

    #[test]
    fn the_pause_doubles_with_each_failure_and_ends_with_a_success() {
        let memory = Memory::default();
        let pauses: Vec<_> = (0..3).map(|_| memory.backoff("x")).collect();
        assert_eq!(pauses, [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4]);
        assert_eq!((0..40).map(|_| memory.backoff("x")).last(), Some(LAST_BACKOFF));
        memory.succeeded("x");
        assert_eq!(memory.backoff("x"), FIRST_BACKOFF);
    }
}
