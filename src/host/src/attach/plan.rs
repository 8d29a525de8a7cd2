//! What an attach is asked to do and what it reports.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::safe_path::{Found, SafePathError};

/// Everything one attach needs. The file descriptors are directories of the pool on the host side: the top of a
/// subvolume, opened for reading.
#[derive(Debug)]
pub struct AttachPlan<'a> {
    /// The subvolume that becomes `/`.
    pub root: BorrowedFd<'a>,
    /// Further subvolumes.
    pub mounts: Vec<PlannedMount<'a>>,
    /// Files of the pod, which are shown in `/etc`.
    pub files: Vec<HostFile>,
    /// Host name to set in the pod's UTS namespace.
    pub hostname: Option<String>,
}

/// A subvolume at a path inside the root.
#[derive(Debug)]
pub struct PlannedMount<'a> {
    /// The subvolume.
    pub disk: BorrowedFd<'a>,
    /// Where it is mounted.
    pub path: MountPath,
    /// Mount it read-only.
    pub read_only: bool,
}

/// A file of the pod and not of the disk, for example `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Its name in `/etc`, for example `hosts`. A file or a link at this place is replaced.
    pub name: &'static str,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// A mount path inside a Spark's root that passed the checks: absolute, normalised, not `/`, and not `/proc`, `/sys`
/// or `/dev` or anything below them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountPath(String);

impl MountPath {
    /// Checks a path that a tenant gave.
    ///
    /// # Errors
    /// [`AttachError::MountPath`] says what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, AttachError> {
        let refuse = |reason| Err(AttachError::MountPath { path: path.to_owned(), reason });
        let Some(relative) = path.strip_prefix('/') else { return refuse("must begin with /") };
        if relative.is_empty() {
            return refuse("is the root itself");
        }
        if path.len() > 1024 || path.contains('\0') {
            return refuse("is longer than 1024 bytes or has a NUL in it");
        }
        let mut components = relative.split('/');
        if components.clone().any(|part| matches!(part, "" | "." | "..")) {
            return refuse("has an empty component, . or .. in it, or ends in /");
        }
        if matches!(components.next(), Some("proc" | "sys" | "dev")) {
            return refuse("is in /proc, /sys or /dev, which belong to the pod");
        }
        Ok(Self(relative.to_owned()))
    }

    /// The path relative to the root, without a leading slash.
    pub fn relative(&self) -> &str {
        &self.0
    }

    /// The rest of `self` if it is below `outer`.
    pub(super) fn below(&self, outer: &MountPath) -> Option<&str> {
        self.0.strip_prefix(&outer.0)?.strip_prefix('/')
    }
}

/// What an attach did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachReport {
    /// How long each step took, in order.
    pub steps: Vec<(Step, Duration)>,
    /// What did not work but does not stop the Spark from running, as sentences; for example that `/etc/hosts`
    /// could not be replaced because the disk is full.
    pub warnings: Vec<String>,
}

impl AttachReport {
    /// All steps together.
    pub fn total(&self) -> Duration {
        self.steps.iter().map(|(_, duration)| *duration).sum()
    }
}

/// The steps of an attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Mount points and links are made in the subvolume, on the host side.
    Prepare,
    /// Mounts of the subvolumes are cloned and mapped to the pod's user namespace.
    CloneDisks,
    /// The pod's mount namespace is entered.
    Enter,
    /// The new root is mounted over the old one.
    MountRoot,
    /// `/proc`, `/sys`, `/dev` and the service account of the pod move over.
    CarryMounts,
    /// The further disks are mounted.
    MountDisks,
    /// `pivot_root` and the lazy unmount of the old root.
    Pivot,
    /// The host name is set.
    Hostname,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Prepare => "prepare",
            Step::CloneDisks => "clone disks",
            Step::Enter => "enter the pod",
            Step::MountRoot => "mount the root",
            Step::CarryMounts => "carry the pod's mounts",
            Step::MountDisks => "mount the disks",
            Step::Pivot => "pivot",
            Step::Hostname => "set the host name",
        })
    }
}

/// Why an attach failed. Whatever the error, the pod's mounts are as they were before.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The root's own contents make it unfit to boot. The tenant has to change them.
    #[error("/{path} in the root is {found}; make it a directory")]
    UnsafeRoot {
        /// Path relative to the root.
        path: String,
        /// What is there.
        found: Found,
    },
    /// A mount path that a tenant gave can't be used.
    #[error("mount path {path:?} {reason}; choose a path such as /data")]
    MountPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The pod shares a namespace with the host: attaching would give it host root, or the host a
    /// tenant's root.
    #[error("the pod has no {namespace} namespace of its own; it must run with hostUsers: false")]
    NotIsolated {
        /// `user`, `mount` or `UTS`.
        namespace: &'static str,
    },
    /// The container's init process ended meanwhile.
    #[error("the container ended while the volume was being attached")]
    Gone,
    /// A mount that the pod brings along is missing in its present root.
    #[error("the pod has no mount at /{path} to bring along; replace the pod")]
    MissingMount {
        /// Path relative to the root.
        path: &'static str,
    },
    /// Something in the root could not be opened or made.
    #[error("{step}: {source}")]
    Path {
        /// The step.
        step: Step,
        /// What and why.
        source: SafePathError,
    },
    /// A system call failed.
    #[error("{step}: {call}: {source}")]
    System {
        /// The step.
        step: Step,
        /// The call.
        call: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
