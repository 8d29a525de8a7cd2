//! How far an object is, and the kstatus conditions that say so.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sparks_api::{
    Class, Reason,
    conditions::{self, READY, condition},
};

/// What stands between an object and Ready, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Why.
    pub reason: Reason,
    /// What that means for whoever waits.
    pub class: Class,
    /// For people.
    pub message: String,
}

impl Blocked {
    /// With the reason's own class.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { class: reason.class(), reason, message: message.into() }
    }

    /// What a condition of another writer says, whose class counts: it may know the reason better.
    #[must_use]
    pub fn relayed(condition: &Condition, class: Option<Class>) -> Self {
        let reason = Reason::from(condition.reason.as_str());
        let class = class.unwrap_or_else(|| reason.class().max(Class::Waiting));
        Self { reason, class, message: condition.message.clone() }
    }

    /// Whether nothing more happens until somebody changes something.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.class == Class::Stalled
    }
}

/// How far an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// As declared, with a reason and a message.
    Ready(Reason, String),
    /// Not there yet.
    Blocked(Blocked),
}

impl Progress {
    /// Whether `Ready` is true.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(..))
    }

    /// The reason and the message of `Ready`.
    #[must_use]
    pub fn words(&self) -> (&Reason, &str) {
        match self {
            Self::Ready(why, message) => (why, message),
            Self::Blocked(blocked) => (&blocked.reason, &blocked.message),
        }
    }

    /// Writes `Ready` and the class.
    pub fn write(&self, conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
        let class = match self {
            Self::Ready(..) => Class::Settled,
            Self::Blocked(blocked) => blocked.class,
        };
        let (why, message) = self.words();
        conditions::set(conditions, condition(READY, self.is_ready(), why, message, generation, now));
        conditions::set_class(conditions, (class, why), message, generation, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparks_api::conditions::{RECONCILING, STALLED, find, is_true};

    #[test]
    fn reconciling_and_stalled_are_there_only_while_they_are_true() {
        let mut all = Vec::new();
        let now = Timestamp::UNIX_EPOCH;
        Progress::Blocked(Blocked::new(Reason::Provisioning, "x")).write(&mut all, Some(1), now);
        assert!(is_true(&all, RECONCILING) && find(&all, STALLED).is_none());
        Progress::Blocked(Blocked::new(Reason::ForkDenied, "x")).write(&mut all, Some(1), now);
        assert!(is_true(&all, STALLED) && find(&all, RECONCILING).is_none());
        Progress::Ready(Reason::Running, "x".into()).write(&mut all, Some(1), now);
        assert_eq!(all.len(), 1);
        assert!(is_true(&all, READY));
    }
}
