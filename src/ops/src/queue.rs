//! Which objects are looked at, and when: the one scheduler of controller and node agent.
//!
//! kube's own scheduler rounds every start up to the next millisecond of a timer wheel, which a fork that takes five
//! can't afford. Here a trigger starts a pass at once; one object is never in two passes at a time, and a trigger during
//! a pass runs it once more. After a failure an object waits, and a trigger shortens the wait but does not end it: what
//! is refused writes its own status, and that write comes back as a trigger.

use std::{collections::HashMap, fmt::Display, hash::Hash, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

/// After a failure a trigger is heeded after this time, if the pause isn't over sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When something changes.
    OnChange,
    /// After this time, though nothing failed.
    After(Duration),
    /// It failed or was refused: after a pause that grows with each time in a row.
    Backoff,
}

/// The pauses after failures.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first; each further one doubles it.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    fn pause(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }
}

/// What can be looked at.
pub trait Key: Clone + Eq + Hash + Display + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Display + Send + Sync + 'static> Key for K {}

enum Message<K> {
    Trigger(K, Instant),
    Done(K, Again),
    Due(K, u64),
}

/// Where triggers go; clones share it.
pub struct Queue<K>(mpsc::UnboundedSender<Message<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The other end of a [`Queue`].
pub struct Receiver<K>(mpsc::UnboundedReceiver<Message<K>>);

/// A new queue.
#[must_use]
pub fn channel<K: Key>() -> (Queue<K>, Receiver<K>) {
    // Unbounded, because triggers of one key collapse into one slot as fast as they are received.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Queue(sender), Receiver(receiver))
}

impl<K: Key> Queue<K> {
    /// Has this object looked at soon, which is now unless a pass of it goes on or it failed just now.
    pub fn trigger(&self, key: K) {
        // The receiver is gone only while the process ends.
        let _ = self.0.send(Message::Trigger(key, Instant::now()));
    }

    fn wake(&self, key: K, epoch: u64, at: Instant) {
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = queue.0.send(Message::Due(key, epoch));
        });
    }
}

#[derive(Default)]
struct Slot {
    running: bool,
    /// Since when it waits to be run again.
    dirty: Option<Instant>,
    failures: u32,
    /// Triggers wait until then.
    not_before: Option<Instant>,
    /// Counts what makes an older timer void.
    epoch: u64,
}

/// Runs `pass` for each triggered key, so many at a time; its second argument is when the trigger came.
pub async fn run<K, F, R>(
    queue: Queue<K>,
    mut receiver: Receiver<K>,
    concurrency: usize,
    backoff: Backoff,
    pass: F,
) where
    K: Key,
    F: Fn(K, Instant) -> R,
    R: Future<Output = Again> + Send + 'static,
{
    let mut slots: HashMap<K, Slot> = HashMap::new();
    let permits = Arc::new(Semaphore::new(concurrency));
    let start = |key: K, since: Instant| {
        let (work, queue, permits) = (pass(key.clone(), since), queue.clone(), permits.clone());
        tokio::spawn(async move {
            let mut done = Done { queue, key: Some(key), again: Again::Backoff };
            let _permit = permits.acquire().await;
            done.again = work.await;
        });
    };
    while let Some(message) = receiver.0.recv().await {
        match message {
            Message::Trigger(key, since) => {
                let slot = slots.entry(key.clone()).or_default();
                if slot.running {
                    slot.dirty.get_or_insert(since);
                    continue;
                }
                match slot.not_before.filter(|at| *at > Instant::now()) {
                    // The first of these moves the timer forward, the others find it there.
                    Some(at) if slot.dirty.replace(since).is_none() => {
                        slot.epoch += 1;
                        queue.wake(key, slot.epoch, at);
                    }
                    Some(_) => {}
                    None => {
                        slot.begin();
                        start(key, since);
                    }
                }
            }
            Message::Due(key, epoch) => match slots.get_mut(&key) {
                Some(slot) if slot.epoch == epoch && !slot.running => {
                    let since = slot.dirty.take().unwrap_or_else(Instant::now);
                    slot.begin();
                    start(key, since);
                }
                _ => {}
            },
            Message::Done(key, again) => {
                let Some(slot) = slots.get_mut(&key) else { continue };
                slot.end(again, backoff);
                match (slot.dirty, slot.not_before) {
                    (Some(since), None) => {
                        slot.begin();
                        start(key, since);
                    }
                    (Some(_), Some(at)) => queue.wake(key, slot.epoch, at),
                    (None, _) => match again {
                        Again::OnChange => drop(slots.remove(&key)),
                        Again::After(pause) => queue.wake(key, slot.epoch, Instant::now() + pause),
                        Again::Backoff => {
                            let pause = backoff.pause(slot.failures);
                            queue.wake(key, slot.epoch, Instant::now() + pause);
                        }
                    },
                }
            }
        }
    }
}

impl Slot {
    fn begin(&mut self) {
        (self.running, self.dirty, self.not_before) = (true, None, None);
        self.epoch += 1;
    }

    fn end(&mut self, again: Again, backoff: Backoff) {
        self.running = false;
        self.epoch += 1;
        self.failures = if again == Again::Backoff { self.failures.saturating_add(1) } else { 0 };
        self.not_before =
            (again == Again::Backoff).then(|| Instant::now() + backoff.pause(self.failures).min(PATIENCE));
    }
}

/// Reports the end of a pass, a panic included, so that no object is stuck.
struct Done<K: Key> {
    queue: Queue<K>,
    key: Option<K>,
    again: Again,
}

impl<K: Key> Drop for Done<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let _ = self.queue.0.send(Message::Done(key, self.again));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Runs the queue over a reconcile that takes 10 ms and answers what `answers` say; returns when each began.
    fn start(answers: Vec<Again>) -> (Queue<&'static str>, Arc<Mutex<Vec<Instant>>>) {
        let (queue, receiver) = channel();
        let (runs, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answers.into_iter())));
        let seen = runs.clone();
        tokio::spawn(run(queue.clone(), receiver, 64, Backoff::default(), move |_, _| {
            let (seen, answers) = (seen.clone(), answers.clone());
            async move {
                seen.lock().unwrap().push(Instant::now());
                tokio::time::sleep(Duration::from_millis(10)).await;
                answers.lock().unwrap().next().unwrap_or(Again::OnChange)
            }
        }));
        (queue, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn triggers_during_a_reconcile_run_it_exactly_once_more() {
        let (queue, runs) = start(vec![]);
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_millis(5)).await;
        queue.trigger("a/b");
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(runs.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_with_each_failure() {
        let (queue, runs) = start(vec![Again::Backoff, Again::Backoff, Again::OnChange]);
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(100)).await;
        let runs = runs.lock().unwrap();
        let pauses: Vec<u128> = runs.windows(2).map(|w| (w[1] - w[0]).as_millis() / 100).collect();
        assert_eq!(pauses, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_ten_minutes_is_tried_thirty_times_at_most_though_each_try_triggers_the_next()
    {
        let (queue, receiver) = channel();
        let (runs, own) = (Arc::new(Mutex::new(0)), queue.clone());
        let seen = runs.clone();
        tokio::spawn(run(queue.clone(), receiver, 64, Backoff::default(), move |key, _| {
            let mut runs = seen.lock().unwrap();
            *runs += 1;
            // The status is another one each time for a while.
            if *runs < 10 {
                own.trigger(key);
            }
            async { Again::Backoff }
        }));
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(*runs.lock().unwrap() <= 30, "{:?}", runs.lock().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_after_a_failure_is_heeded_within_seconds_whatever_the_pause() {
        let (queue, runs) = start(vec![Again::Backoff; 12]);
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(160)).await;
        let last = *runs.lock().unwrap().last().unwrap();
        queue.trigger("a/b");
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        let (before, now) = (last, *runs.lock().unwrap().last().unwrap());
        assert!(now > before && now - before < Duration::from_secs(61));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_voids_the_timer_of_the_reconcile_before() {
        let (queue, runs) = start(vec![Again::After(Duration::from_secs(5)), Again::OnChange]);
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(runs.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_counts_as_a_failure() {
        let (queue, receiver) = channel();
        let runs = Arc::new(Mutex::new(0));
        let seen = runs.clone();
        tokio::spawn(run(queue.clone(), receiver, 64, Backoff::default(), move |_, _| {
            let seen = seen.clone();
            async move {
                let run = {
                    let mut runs = seen.lock().unwrap();
                    *runs += 1;
                    *runs
                };
                assert!(run > 1, "the first run panics on purpose");
                Again::OnChange
            }
        }));
        queue.trigger("a/b");
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(*runs.lock().unwrap(), 2);
    }

    #[test]
    fn the_pause_is_at_most_a_minute() {
        let of = Backoff::default();
        assert_eq!((of.pause(1), of.pause(2), of.pause(99)), (of.first, of.first * 2, of.longest));
    }
}
