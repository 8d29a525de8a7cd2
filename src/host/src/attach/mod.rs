//! A volume becomes the root filesystem of a running pod.
//!
//! The order is: make mount points and links in the subvolume on the host side; clone a mount of each subvolume and
//! map it to the pod's user namespace; enter the pod's mount namespace; mount the new root over `/`, the pod's own
//! `/proc`, `/sys`, `/dev`, files and service account into it, then the further disks; `pivot_root(".", ".")`; say so;
//! unmount the old root. The same steps replace a root in place: the old root is then another tenant's tree, and is trusted no
//! more than the new one.
//!
//! Facts it rests on:
//! - An ID-mapped mount must be detached and new (mount_setattr(2)), so each attach clones its own.
//! - Host root has no ID in such a mount, and can't make files through it (`EOVERFLOW`): hence the host side.
//! - A mount over `/` of a namespace is invisible to processes in it until `pivot_root`, because their root is the
//!   mount below. Up to that call a failure is undone by unmounting the new root.
//! - `pivot_root` moves root and working directory of every process that stands in the old root's top
//!   (pivot_root(2), "chroot_fs_refs"). A process with another working directory keeps the old tree alive.
//! - `umount2(MNT_DETACH)` detaches at once, and then waits for an RCU grace period (`synchronize_rcu_expedited` in
//!   `namespace_unlock`): half a millisecond, and 5 on busy processors, in which the caller gets on with its work.

mod files;
mod plan;
mod prepare;
mod switch;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::ThreadNameSpaceType;

pub use plan::{AttachError, AttachPlan, AttachReport, HostFile, MountPath, PlannedMount, Step};

use crate::container::Container;

type Result<T, E = AttachError> = std::result::Result<T, E>;

/// The pod's own mounts that move into the new root.
const POD_MOUNTS: [&str; 3] = ["proc", "sys", "dev"];

/// Where Kubernetes mounts the service account's token. `/var/run` is a symbolic link to `/run` in most roots, and no
/// link is followed there, so the second is taken where the first can't be.
const SERVICE_ACCOUNT: [&str; 2] =
    ["var/run/secrets/kubernetes.io/serviceaccount", "run/secrets/kubernetes.io/serviceaccount"];

/// Makes the subvolumes of the plan the root and the mounts of a running container. When this returns all of its
/// processes stand in them; `cleared` is called once the old root has gone as well, and dropped when nothing changed.
///
/// # Errors
/// See [`AttachError`]; the pod's mounts are then as they were.
pub fn attach(
    container: &Container,
    plan: &AttachPlan<'_>,
    cleared: impl FnOnce() + Send + 'static,
) -> Result<AttachReport> {
    let mut clock = Clock::start();
    let user_namespace = switch::isolated_user_namespace(container)?;
    let prepared = prepare::prepare(plan, user_namespace.as_fd(), &mut clock.report.warnings)?;
    clock.step(Step::Prepare);
    let trees = switch::clone_trees(plan, prepared, user_namespace.as_fd())?;
    clock.step(Step::CloneDisks);

    let namespaces = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    let hostname = plan.hostname.clone();
    let switched = container.enter_for_answer(namespaces, move |answer| {
        let switched = switch::switch(&trees, hostname.as_deref(), &mut clock);
        let has_pivoted = switched.is_ok();
        answer(switched.map(|()| clock.report.clone()));
        if has_pivoted {
            switch::detach_old_root();
            cleared();
        }
    });
    match switched {
        Ok(result) => result,
        Err(_) if !container.is_alive() => Err(AttachError::Gone),
        Err(source) => Err(AttachError::System { step: Step::Enter, call: "setns", source }),
    }
}

/// Measures the steps.
struct Clock {
    last: Instant,
    report: AttachReport,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), report: AttachReport::default() }
    }

    fn step(&mut self, step: Step) -> Duration {
        let took = self.last.elapsed();
        self.report.steps.push((step, took));
        self.last += took;
        took
    }
}
