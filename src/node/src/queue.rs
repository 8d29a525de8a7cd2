//! Which Volumes are reconciled, and when.
//!
//! kube's own scheduler rounds every start up to the next millisecond of a timer wheel, which a fork that takes five
//! can't afford. Here a trigger starts a reconcile at once; one Volume is never reconciled twice at a time, and a
//! trigger during a reconcile runs it once more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

/// Reconciles that run at the same time. They wait for the disk or the API server nearly always.
const CONCURRENCY: usize = 64;
/// The first pause after a failure; each further failure doubles it.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Name of a namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of this name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Settled,
    /// To be looked at again after this time.
    Again(Duration),
    /// To be tried again after a pause that grows.
    Failed,
}

enum Message {
    Trigger(Key, Instant),
    Done(Key, Outcome),
    Due(Key, u64),
}

/// Where triggers go; clones share it.
#[derive(Clone)]
pub struct Queue(mpsc::UnboundedSender<Message>);

/// The other end of a [`Queue`].
pub struct Receiver(mpsc::UnboundedReceiver<Message>);

/// A new queue.
pub fn channel() -> (Queue, Receiver) {
    // Unbounded, because triggers of one key collapse into one slot as fast as they are received.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Queue(sender), Receiver(receiver))
}

impl Queue {
    /// Reconciles this object soon, which is now unless it is being reconciled.
    pub fn trigger(&self, key: Key) {
        // The receiver is gone only while the agent ends.
        let _ = self.0.send(Message::Trigger(key, Instant::now()));
    }
}

#[derive(Default)]
struct Slot {
    running: bool,
    /// Since when it waits to be run again.
    dirty: Option<Instant>,
    failures: u32,
    /// Counts what makes an older timer void.
    epoch: u64,
}

/// Runs `reconcile` for each triggered key; its second argument is when the trigger came.
pub async fn run<F, R>(queue: Queue, mut receiver: Receiver, reconcile: F)
where
    F: Fn(Key, Instant) -> R,
    R: Future<Output = Outcome> + Send + 'static,
{
    let mut slots: HashMap<Key, Slot> = HashMap::new();
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let start = |key: Key, since: Instant| {
        let (work, queue, permits) = (reconcile(key.clone(), since), queue.clone(), permits.clone());
        tokio::spawn(async move {
            let mut done = Done { queue, key: Some(key), outcome: Outcome::Failed };
            let _permit = permits.acquire().await;
            done.outcome = work.await;
        });
    };
    while let Some(message) = receiver.0.recv().await {
        match message {
            Message::Trigger(key, since) => {
                let slot = slots.entry(key.clone()).or_default();
                slot.epoch += 1;
                if slot.running {
                    slot.dirty.get_or_insert(since);
                } else {
                    slot.running = true;
                    start(key, since);
                }
            }
            Message::Due(key, epoch) => match slots.get_mut(&key) {
                Some(slot) if slot.epoch == epoch && !slot.running => {
                    slot.running = true;
                    start(key, Instant::now());
                }
                _ => {}
            },
            Message::Done(key, outcome) => {
                let Some(slot) = slots.get_mut(&key) else { continue };
                slot.failures = if outcome == Outcome::Failed { slot.failures.saturating_add(1) } else { 0 };
                if let Some(since) = slot.dirty.take() {
                    start(key, since);
                    continue;
                }
                slot.running = false;
                slot.epoch += 1;
                match outcome {
                    Outcome::Settled => drop(slots.remove(&key)),
                    Outcome::Again(pause) => wake(&queue, key, slot.epoch, pause),
                    Outcome::Failed => wake(&queue, key, slot.epoch, backoff(slot.failures)),
                }
            }
        }
    }
}

fn wake(queue: &Queue, key: Key, epoch: u64, pause: Duration) {
    let queue = queue.clone();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        let _ = queue.0.send(Message::Due(key, epoch));
    });
}

fn backoff(failures: u32) -> Duration {
    (FIRST_BACKOFF * (1 << failures.saturating_sub(1).min(12))).min(MAX_BACKOFF)
}

/// Reports the end of a reconcile, a panic included, so that no object is stuck.
struct Done {
    queue: Queue,
    key: Option<Key>,
    outcome: Outcome,
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let _ = self.queue.0.send(Message::Done(key, self.outcome));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Runs the queue over a reconcile that takes 10 ms and answers what `answers` say; returns when each began.
    fn start(answers: Vec<Outcome>) -> (Queue, Arc<Mutex<Vec<Instant>>>) {
        let (queue, receiver) = channel();
        let (runs, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answers.into_iter())));
        let seen = runs.clone();
        tokio::spawn(run(queue.clone(), receiver, move |_, _| {
            let (seen, answers) = (seen.clone(), answers.clone());
            async move {
                seen.lock().unwrap().push(Instant::now());
                tokio::time::sleep(Duration::from_millis(10)).await;
                answers.lock().unwrap().next().unwrap_or(Outcome::Settled)
            }
        }));
        (queue, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn triggers_during_a_reconcile_run_it_exactly_once_more() {
        let (queue, runs) = start(vec![]);
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_millis(5)).await;
        queue.trigger(Key::new("a", "b"));
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(runs.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_a_trigger_does_not_wait_for_them() {
        let (queue, runs) = start(vec![Outcome::Failed, Outcome::Failed, Outcome::Settled]);
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        {
            let runs = runs.lock().unwrap();
            let pauses: Vec<u128> = runs.windows(2).map(|w| (w[1] - w[0]).as_millis() / 100).collect();
            assert_eq!(pauses, [1, 2]);
        }
        let before = Instant::now();
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(*runs.lock().unwrap().last().unwrap() - before < Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_voids_the_timer_of_the_reconcile_before() {
        let (queue, runs) = start(vec![Outcome::Again(Duration::from_secs(5)), Outcome::Settled]);
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(runs.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_counts_as_a_failure() {
        let (queue, receiver) = channel();
        let runs = Arc::new(Mutex::new(0));
        let seen = runs.clone();
        tokio::spawn(run(queue.clone(), receiver, move |_, _| {
            let seen = seen.clone();
            async move {
                let run = {
                    let mut runs = seen.lock().unwrap();
                    *runs += 1;
                    *runs
                };
                assert!(run > 1, "the first run panics on purpose");
                Outcome::Settled
            }
        }));
        queue.trigger(Key::new("a", "b"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(*runs.lock().unwrap(), 2);
    }

    #[test]
    fn the_pause_is_at_most_a_minute() {
        assert_eq!((backoff(1), backoff(2), backoff(99)), (FIRST_BACKOFF, FIRST_BACKOFF * 2, MAX_BACKOFF));
    }
}
