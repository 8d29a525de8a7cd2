//! Condition types, each with what it means. Conditions follow the Kubernetes API conventions and kstatus:
//! `Ready` is always there; `Reconciling` and `Stalled` only while they are true.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::reason::{Class, Reason};

/// The object is as declared: of a Spark that is to run that it runs and its service answers, of one that is to be
/// stopped that it has no pod.
pub const READY: &str = "Ready";
/// On a Spark: the computer is up, so that commands can be run in it. Its service may not answer yet.
pub const RUNNING: &str = "Running";
/// The controller is still working towards the spec.
pub const RECONCILING: &str = "Reconciling";
/// Nothing more happens until somebody changes something; the message says what.
pub const STALLED: &str = "Stalled";
/// On a Volume: its disks exist on the node.
pub const PROVISIONED: &str = "Provisioned";
/// On a Volume: its disks are the root and mounts of the pod that `spec.attachment` names.
pub const ATTACHED: &str = "Attached";
/// On a Spark: the pod has the size that the Spark asks for.
pub const RESIZED: &str = "Resized";
/// On a Spark with `ssh.authorizedKeysFrom`: all of them could be read.
pub const KEYS_RESOLVED: &str = "KeysResolved";

/// Reason of [`RECONCILING`] while it comes by itself, as Flux names it.
const PROGRESSING: &str = "Progressing";
/// Reason of [`RECONCILING`] while it fails and is tried again, as Flux names it.
const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";

/// Makes a condition; `since` is replaced by [`set`] when the status did not change.
#[must_use]
pub fn condition(
    kind: &str,
    status: bool,
    reason: impl AsRef<str>,
    message: impl Into<String>,
    generation: Option<i64>,
    since: Timestamp,
) -> Condition {
    Condition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: reason.as_ref().into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(since),
    }
}

/// Puts `new` in place of its kind, keeping `lastTransitionTime` when the status did not change.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// Writes the class, for readers of any version: [`STALLED`], or [`RECONCILING`] whose reason tells what comes by itself
/// from what fails. Both are absent where they are not true, as kstatus wants.
pub fn set_class(
    conditions: &mut Vec<Condition>,
    (class, reason): (Class, &Reason),
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let told = match class {
        Class::Settled => None,
        Class::Waiting => Some((RECONCILING, PROGRESSING)),
        Class::Failing => Some((RECONCILING, PROGRESSING_WITH_RETRY)),
        Class::Stalled => Some((STALLED, reason.as_str())),
    };
    conditions
        .retain(|c| ![RECONCILING, STALLED].contains(&&*c.type_) || told.is_some_and(|t| t.0 == c.type_));
    if let Some((kind, reason)) = told {
        set(conditions, condition(kind, true, reason, message, generation, now));
    }
}

/// The class that [`set_class`] wrote; `None` if nothing is waited for, or its writer tells no class.
#[must_use]
pub fn class(conditions: &[Condition]) -> Option<Class> {
    if is_true(conditions, STALLED) {
        return Some(Class::Stalled);
    }
    let reconciling = find(conditions, RECONCILING).filter(|c| c.status == "True")?;
    Some(if reconciling.reason == PROGRESSING_WITH_RETRY { Class::Failing } else { Class::Waiting })
}

/// Removes the condition of this kind.
pub fn remove(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|c| c.type_ != kind);
}

/// The condition of this kind.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether the condition of this kind is there and true.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_is_kept_while_the_status_stays() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut all = vec![condition(READY, false, Reason::Provisioning, "a", None, early)];
        set(&mut all, condition(READY, false, Reason::Attaching, "b", None, late));
        assert!(all[0].reason == Reason::Attaching && all[0].last_transition_time.0 == early);
        set(&mut all, condition(READY, true, Reason::Running, "c", None, late));
        assert_eq!((all.len(), all[0].last_transition_time.0), (1, late));
    }

    #[test]
    fn the_class_that_was_written_is_read_whatever_the_reader_thinks_of_the_reason() {
        let mut all = Vec::new();
        for class in [Class::Waiting, Class::Stalled, Class::Failing, Class::Settled] {
            let reason = Reason::from("FromTheFuture");
            set_class(&mut all, (class, &reason), "x", None, Timestamp::UNIX_EPOCH);
            assert_eq!(super::class(&all).unwrap_or(Class::Settled), class);
            assert_eq!(all.len(), usize::from(class != Class::Settled), "only what is true is there");
        }
    }
}
