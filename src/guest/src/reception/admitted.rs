//! Keys of those who may run programs in the pod, and come in by TCP.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a key opens.
const LIFE: Duration = Duration::from_secs(60);

/// So many keys at a time; one more takes the place of the oldest.
const MOST_KEYS: usize = 64;

/// The keys, the oldest first.
#[derive(Debug, Default)]
pub struct Admitted(VecDeque<(String, Instant)>);

impl Admitted {
    /// Lets a key in from now on. One that is known already begins anew.
    pub fn admit(&mut self, key: String, now: Instant) {
        self.0.retain(|(known, _)| *known != key);
        if self.0.len() >= MOST_KEYS {
            self.0.pop_front();
        }
        self.0.push_back((key, now));
    }

    /// The keys that open now.
    pub fn valid(&mut self, now: Instant) -> Vec<String> {
        self.0.retain(|(_, since)| now < *since + LIFE);
        self.0.iter().map(|(key, _)| key.clone()).collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: usize) -> String {
        format!("ssh-ed25519 {n}")
    }

    #[test]
    fn a_key_opens_for_a_minute_and_not_longer() {
        let (mut admitted, now) = (Admitted::default(), Instant::now());
        admitted.admit(numbered(1), now);
        assert_eq!(admitted.valid(now), [numbered(1)]);
        assert_eq!(admitted.valid(now + LIFE - Duration::from_nanos(1)), [numbered(1)]);
        assert!(admitted.valid(now + LIFE).is_empty());
        assert!(admitted.valid(now).is_empty(), "it is forgotten, not hidden");
    }

    #[test]
    fn a_key_that_is_admitted_again_counts_once_and_from_then_on() {
        let (mut admitted, now) = (Admitted::default(), Instant::now());
        let later = now + LIFE / 2;
        admitted.admit(numbered(1), now);
        admitted.admit(numbered(1), later);
        assert_eq!(admitted.valid(now + LIFE), [numbered(1)]);
        assert!(admitted.valid(later + LIFE).is_empty());
    }

    #[test]
    fn of_too_many_keys_the_one_admitted_longest_ago_goes() {
        let (mut admitted, now) = (Admitted::default(), Instant::now());
        for n in 0..MOST_KEYS {
            admitted.admit(numbered(n), now);
        }
        // The oldest is the newest from now on.
        admitted.admit(numbered(0), now);
        admitted.admit(numbered(MOST_KEYS), now);
        let valid = admitted.valid(now);
        assert_eq!(valid.len(), MOST_KEYS);
        assert!(valid.contains(&numbered(0)) && !valid.contains(&numbered(1)));
    }
}
