//! How many ways to a Spark may be made for clients that have not proven who they are.
//!
//! Connecting to the guest while the client signs is what makes a login fast. But anybody can offer somebody's public
//! key, which is no secret, and each offer would cost the Spark a connection and a login.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::directory::Key;

/// Unproven ways to one Spark at once.
const MOST: usize = 4;
/// How much longer one counts whose client proved nothing, so that strangers can't make one after the other.
const COUNTS_ON: Duration = Duration::from_secs(1);

/// The unproven ways to all Sparks. Clones share them.
#[derive(Clone, Default)]
pub struct Unproven(Arc<Mutex<HashMap<Key, usize>>>);

impl Unproven {
    fn counts(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more to this Spark; nothing when there are enough.
    #[must_use]
    pub fn begin(&self, spark: &Key) -> Option<Turn> {
        let mut counts = self.counts();
        let count = counts.entry(spark.clone()).or_default();
        if *count >= MOST {
            return None;
        }
        *count += 1;
        Some(Turn(Some(Counted { all: self.clone(), spark: spark.clone() })))
    }
}

/// An unproven way.
pub struct Turn(Option<Counted>);

impl Turn {
    /// The client has proven who it is.
    pub fn proven(mut self) {
        self.0 = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let (Some(counted), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(COUNTS_ON).await;
                drop(counted);
            });
        }
    }
}

struct Counted {
    all: Unproven,
    spark: Key,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.spark) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.spark);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_proves_nothing_counts_for_a_while_and_who_does_makes_room_at_once() {
        let (all, spark) = (Unproven::default(), Key::new("team", "api"));
        let mut turns: Vec<_> = (0..MOST).map(|_| all.begin(&spark).unwrap()).collect();
        assert!(all.begin(&spark).is_none());
        assert!(all.begin(&Key::new("team", "web")).is_some(), "each Spark has its own");
        turns.pop().unwrap().proven();
        turns.push(all.begin(&spark).unwrap());
        drop(turns);
        tokio::time::sleep(COUNTS_ON / 2).await;
        assert!(all.begin(&spark).is_none());
        tokio::time::sleep(COUNTS_ON).await;
        assert!(all.counts().is_empty());
    }
}
