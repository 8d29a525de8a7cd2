//! Why an object is as it is: the reasons of conditions and events, each with its class.

use std::fmt;

/// What a reason means for whoever waits, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is as declared, or was done: nothing is waited for.
    Settled,
    /// It comes by itself.
    Waiting,
    /// It is tried again; somebody may have to act.
    Failing,
    /// Nothing happens until somebody changes something.
    Stalled,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $class:ident,)+) => {
        /// Reason of a condition or an event.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
            /// One that this version doesn't know, in its own words. It is waited for, unless its writer says more
            /// ([`conditions::class`](crate::conditions::class)).
            Other(String),
        }

        impl Reason {
            /// All that this version knows.
            pub const KNOWN: &[Self] = &[$(Self::$name),+];

            /// As it stands in the API.
            #[must_use]
            pub const fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Other(words) => words.as_str(),
                }
            }

            /// What it means for whoever waits.
            #[must_use]
            pub const fn class(&self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)+
                    Self::Other(_) => Class::Waiting,
                }
            }
        }

        impl From<&str> for Reason {
            fn from(words: &str) -> Self {
                match words {
                    $(stringify!($name) => Self::$name,)+
                    _ => Self::Other(words.to_owned()),
                }
            }
        }
    };
}

reasons! {
    /// It runs, and its service (if any) is ready.
    Running: Settled,
    /// `spec.lifecycle.running` is false.
    Stopped: Settled,
    /// It was idle for `spec.lifecycle.idleTimeout`; it wakes at the next SSH or HTTP.
    Sleeping: Settled,
    /// It is complete and can be used.
    Available: Settled,
    /// The disks are the root and mounts of the pod.
    Attached: Settled,
    /// An event: somebody came while it slept.
    Woken: Settled,
    /// An event: the Spark was restored from a Checkpoint.
    Restored: Settled,
    /// An event: the disks were attached again, after a restart of the container or to another pod.
    Reattached: Settled,
    /// An event: the image is in the node's pool.
    ImageImported: Settled,
    /// It was idle and goes to sleep.
    FallingAsleep: Waiting,
    /// Its time to live has passed; it is being deleted, and its data goes into the trash.
    Expired: Waiting,
    /// The service has not become ready yet, or is no longer.
    ServiceNotReady: Waiting,
    /// No warm pod was free; an ordinary pod starts.
    PodStarting: Waiting,
    /// The pod's old container still runs; two pods never share a disk.
    PodTerminating: Waiting,
    /// The image is being pulled and imported on the node.
    ImportingImage: Waiting,
    /// The node agent has not made the disks yet.
    Provisioning: Waiting,
    /// The disks exist and are being attached to the pod.
    Attaching: Waiting,
    /// The object named in `from` has no data yet.
    SourceNotReady: Waiting,
    /// Warm pods are starting.
    Replenishing: Waiting,
    /// A Secret or ConfigMap named in `ssh.authorizedKeysFrom` is missing.
    KeySourceNotFound: Failing,
    /// Lines that were named as public keys can't be used as such.
    KeysUnusable: Failing,
    /// The scheduler finds no place for the pod.
    Unschedulable: Failing,
    /// The object named in `from` does not exist; it may still be created.
    SourceNotFound: Failing,
    /// No node can take the Spark.
    NoNode: Failing,
    /// The node that holds the data is gone or has no running node agent.
    NodeLost: Failing,
    /// The pool of the node that holds the data has no room.
    PoolFull: Failing,
    /// A Secret or ConfigMap named in `envFrom` is missing.
    EnvSourceNotFound: Failing,
    /// The operating system refused; the message says which step.
    HostError: Failing,
    /// The node can't give the size now or ever; the message is the kubelet's.
    ResizePending: Failing,
    /// The API server refused a write; the message is its own.
    ApiRefused: Failing,
    /// The image can't be pulled; the message is the kubelet's.
    ImagePullFailed: Stalled,
    /// The data of the source is not on its node any more.
    SourceLost: Stalled,
    /// The Checkpoint to restore is on another node than the Spark.
    SourceElsewhere: Stalled,
    /// The source is in another namespace and doesn't consent (`spec.forkPolicy`).
    ForkDenied: Stalled,
    /// A disk is asked to become smaller than what it holds.
    SizeTooSmall: Stalled,
    /// The root holds something other than a directory where the system must mount.
    UnsafeRoot: Stalled,
    /// No node can do what is asked for; the message says what to change.
    Unsupported: Stalled,
    /// An object with a needed name exists already and belongs to somebody else.
    NameTaken: Stalled,
    /// The trashed data to undelete is not there (any more).
    NothingToUndelete: Stalled,
    /// The Volume with the data was deleted by somebody else.
    VolumeLost: Stalled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Reason {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<Reason> for String {
    fn eq(&self, reason: &Reason) -> bool {
        self == reason.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same_reason() {
        for reason in Reason::KNOWN {
            assert_eq!(&Reason::from(reason.as_str()), reason);
        }
    }

    #[test]
    fn an_unknown_reason_is_waited_for_in_its_own_words() {
        let unknown = Reason::from("FromTheFuture");
        assert_eq!((unknown.as_str(), unknown.class()), ("FromTheFuture", Class::Waiting));
    }
}
