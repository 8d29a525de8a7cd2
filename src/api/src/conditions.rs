//! Condition types and reasons, each with what it means. Conditions follow the Kubernetes API conventions and kstatus:
//! `Ready` is always there; `Reconciling` and `Stalled` only while they are true.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The object does what it is for.
pub const READY: &str = "Ready";
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

/// Reasons of conditions and events.
pub mod reason {
    /// It runs, and its service (if any) is ready.
    pub const RUNNING: &str = "Running";
    /// `spec.lifecycle.running` is false.
    pub const STOPPED: &str = "Stopped";
    /// It was idle for `spec.lifecycle.idleTimeout`; it wakes at the next SSH or HTTP.
    pub const SLEEPING: &str = "Sleeping";
    /// An event: somebody came while it slept.
    pub const WOKEN: &str = "Woken";
    /// A Secret or ConfigMap named in `ssh.authorizedKeysFrom` is missing.
    pub const KEY_SOURCE_NOT_FOUND: &str = "KeySourceNotFound";
    /// Lines that were named as public keys can't be used as such.
    pub const KEYS_UNUSABLE: &str = "KeysUnusable";
    /// It is complete and can be used.
    pub const AVAILABLE: &str = "Available";
    /// The service has not become ready yet, or is no longer.
    pub const SERVICE_NOT_READY: &str = "ServiceNotReady";
    /// No warm pod was free; an ordinary pod starts.
    pub const POD_STARTING: &str = "PodStarting";
    /// The scheduler finds no place for the pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The pod's old container still runs; two pods never share a disk.
    pub const POD_TERMINATING: &str = "PodTerminating";
    /// The image is being pulled and imported on the node.
    pub const IMPORTING_IMAGE: &str = "ImportingImage";
    /// The image can't be pulled; the message is the kubelet's.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// The node agent has not made the disks yet.
    pub const PROVISIONING: &str = "Provisioning";
    /// The disks exist and are being attached to the pod.
    pub const ATTACHING: &str = "Attaching";
    /// The object named in `from` does not exist.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// The object named in `from` has no data yet.
    pub const SOURCE_NOT_READY: &str = "SourceNotReady";
    /// The source is in another namespace and doesn't consent (`spec.forkPolicy`).
    pub const FORK_DENIED: &str = "ForkDenied";
    /// No node can take the Spark.
    pub const NO_NODE: &str = "NoNode";
    /// The node that holds the data is gone or has no running node agent.
    pub const NODE_LOST: &str = "NodeLost";
    /// The pool of the node that holds the data has no room.
    pub const POOL_FULL: &str = "PoolFull";
    /// A disk is asked to become smaller than what it holds.
    pub const SIZE_TOO_SMALL: &str = "SizeTooSmall";
    /// The root holds something other than a directory where the system must mount.
    pub const UNSAFE_ROOT: &str = "UnsafeRoot";
    /// A Secret or ConfigMap named in `envFrom` is missing.
    pub const ENV_SOURCE_NOT_FOUND: &str = "EnvSourceNotFound";
    /// An object with a needed name exists already and belongs to somebody else.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The operating system refused; the message says which step.
    pub const HOST_ERROR: &str = "HostError";
    /// The trashed data to undelete is not there (any more).
    pub const NOTHING_TO_UNDELETE: &str = "NothingToUndelete";
    /// The Volume with the Spark's disks was deleted by somebody else.
    pub const VOLUME_LOST: &str = "VolumeLost";
    /// An event: the Spark's time to live has passed.
    pub const EXPIRED: &str = "Expired";
    /// An event: the data went into the trash.
    pub const TRASHED: &str = "Trashed";
    /// An event: the Spark was restored from a Checkpoint.
    pub const RESTORED: &str = "Restored";
    /// The node can't give the size now or ever; the message is the kubelet's.
    pub const RESIZE_PENDING: &str = "ResizePending";
    /// The API server refused a write; the message is its own.
    pub const API_REFUSED: &str = "ApiRefused";
    /// Warm pods are starting.
    pub const REPLENISHING: &str = "Replenishing";
}

/// Makes a condition; `since` is replaced by [`set`] when the status did not change.
#[must_use]
pub fn condition(
    kind: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    since: Timestamp,
) -> Condition {
    Condition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: reason.into(),
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
        let mut all = vec![condition(READY, false, reason::PROVISIONING, "a", None, early)];
        set(&mut all, condition(READY, false, reason::ATTACHING, "b", None, late));
        assert_eq!((all[0].reason.as_str(), all[0].last_transition_time.0), (reason::ATTACHING, early));
        set(&mut all, condition(READY, true, reason::RUNNING, "c", None, late));
        assert_eq!((all.len(), all[0].last_transition_time.0), (1, late));
    }
}
