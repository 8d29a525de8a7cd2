//! How far an object is, and the kstatus conditions that say so.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sparks_api::conditions::{self, READY, RECONCILING, STALLED, condition};

/// What stands between an object and Ready: a reason of the API and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// One of `sparks_api::conditions::reason`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Whether nothing more happens until somebody changes something.
    pub stalled: bool,
}

impl Blocked {
    /// It goes on by itself.
    #[must_use]
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: false }
    }

    /// Somebody has to act.
    #[must_use]
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }
}

/// How far an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ready, with a reason and a message.
    Ready(&'static str, String),
    /// As wanted, but not Ready by wish (stopped).
    Settled(&'static str, String),
    /// Not there yet.
    Blocked(Blocked),
}

impl Progress {
    /// Whether `Ready` is true.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(..))
    }

    /// Writes `Ready`, and `Reconciling` or `Stalled` where they are true; they are absent otherwise, as kstatus wants.
    pub fn write(&self, conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
        let (ready, why, message) = match self {
            Self::Ready(why, message) => (true, *why, message),
            Self::Settled(why, message) => (false, *why, message),
            Self::Blocked(blocked) => (false, blocked.reason, &blocked.message),
        };
        conditions::set(conditions, condition(READY, ready, why, message, generation, now));
        let (on, off) = match self {
            Self::Blocked(blocked) if blocked.stalled => (Some(STALLED), [RECONCILING, ""]),
            Self::Blocked(_) => (Some(RECONCILING), [STALLED, ""]),
            _ => (None, [RECONCILING, STALLED]),
        };
        off.iter().for_each(|kind| conditions::remove(conditions, kind));
        if let Some(kind) = on {
            conditions::set(conditions, condition(kind, true, why, message, generation, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparks_api::conditions::{find, is_true, reason};

    #[test]
    fn reconciling_and_stalled_are_there_only_while_they_are_true() {
        let mut all = Vec::new();
        let now = Timestamp::UNIX_EPOCH;
        Progress::Blocked(Blocked::waiting(reason::PROVISIONING, "x")).write(&mut all, Some(1), now);
        assert!(is_true(&all, RECONCILING) && find(&all, STALLED).is_none());
        Progress::Blocked(Blocked::stalled(reason::FORK_DENIED, "x")).write(&mut all, Some(1), now);
        assert!(is_true(&all, STALLED) && find(&all, RECONCILING).is_none());
        Progress::Ready(reason::RUNNING, "x".into()).write(&mut all, Some(1), now);
        assert_eq!(all.len(), 1);
        assert!(is_true(&all, READY));
    }
}
