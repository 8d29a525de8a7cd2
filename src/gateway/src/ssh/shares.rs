//! How many connections lead to the Sparks of each namespace, so that one tenant leaves room for the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections of all namespaces. Clones share them.
#[derive(Clone)]
pub struct Shares {
    most: usize,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

/// A namespace has as many as it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{most} SSH connections lead to namespace {namespace}, which is its share: close some of them first")]
pub struct Crowded {
    namespace: String,
    most: usize,
}

/// A connection that counts for a namespace for as long as this lives.
#[derive(Debug)]
pub struct Share {
    namespace: String,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

impl Shares {
    /// So many of each namespace.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts one more for a namespace.
    ///
    /// # Errors
    /// [`Crowded`] when it has its share already.
    pub fn take(&self, namespace: &str) -> Result<Share, Crowded> {
        let mut counts = lock(&self.counts);
        let count = counts.get(namespace).copied().unwrap_or_default();
        if count >= self.most {
            return Err(Crowded { namespace: namespace.into(), most: self.most });
        }
        counts.insert(namespace.into(), count + 1);
        Ok(Share { namespace: namespace.into(), counts: self.counts.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.namespace);
            }
        }
    }
}

fn lock(counts: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_share_and_what_it_gives_back_it_may_take_again() {
        let shares = Shares::new(2);
        let mut taken = vec![shares.take("a").unwrap(), shares.take("a").unwrap()];
        assert!(shares.take("a").is_err());
        drop(shares.take("b").unwrap());
        taken.pop();
        taken.push(shares.take("a").unwrap());
        assert!(shares.take("a").is_err());
        drop(taken);
        assert!(lock(&shares.counts).is_empty());
    }
}
