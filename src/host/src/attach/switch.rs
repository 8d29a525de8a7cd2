//! The pod's side: everything that happens in its mount namespace.
//!
//! No path of a tenant is resolved by the kernel's ordinary rules: sources are opened relative to the old root,
//! targets relative to the new one, both through [`HostileRoot`], and mounts land on file descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::plan::{AttachError, AttachPlan, Step};
use super::prepare::{Prepared, unsafe_root};
use super::{Clock, POD_MOUNTS, Result, SERVICE_ACCOUNT, files};
use crate::container::Container;
use crate::safe_path::{HostileRoot, SafePathError};

/// Detached, ID-mapped mounts of the plan's subvolumes.
pub(super) struct Trees {
    root: OwnedFd,
    mounts: Vec<(OwnedFd, String)>,
    files: Option<OwnedFd>,
    service_account: &'static str,
}

fn failed(step: Step, call: &'static str) -> impl Fn(Errno) -> AttachError {
    move |error| AttachError::System { step, call, source: error.into() }
}

/// The pod's user namespace, if the pod has a user, a mount and a UTS namespace of its own.
pub(super) fn isolated_user_namespace(container: &Container) -> Result<OwnedFd> {
    for (kind, namespace) in [("user", "user"), ("mnt", "mount"), ("uts", "UTS")] {
        let identity = |process: &str| -> io::Result<(u64, u64)> {
            std::fs::metadata(format!("/proc/{process}/ns/{kind}")).map(|meta| (meta.dev(), meta.ino()))
        };
        let theirs = identity(&container.pid().to_string()).map_err(|_| AttachError::Gone)?;
        if [identity("self"), identity("1")].into_iter().flatten().any(|ours| ours == theirs) {
            return Err(AttachError::NotIsolated { namespace });
        }
    }
    container.namespace("user").map_err(|_| AttachError::Gone)
}

pub(super) fn clone_trees(
    plan: &AttachPlan<'_>,
    prepared: Prepared,
    user_namespace: BorrowedFd<'_>,
) -> Result<Trees> {
    let root = clone_mapped(plan.root, user_namespace, false)?;
    let mounts = prepared.order.iter().map(|&index| {
        let mount = &plan.mounts[index];
        Ok((clone_mapped(mount.disk, user_namespace, mount.read_only)?, mount.path.relative().to_owned()))
    });
    let mounts = mounts.collect::<Result<_>>()?;
    Ok(Trees { root, mounts, files: prepared.files, service_account: prepared.service_account })
}

/// A mount of its own of one directory. Device nodes in it are dead: the pod brings its own /dev. Set-user-ID programs
/// and file capabilities work, inside the user namespace, so that sudo does.
fn clone_mapped(
    directory: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    read_only: bool,
) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(directory, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)
        .map_err(failed(Step::CloneDisks, "open_tree"))?;
    let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    map(&tree, user_namespace, libc::MOUNT_ATTR_NODEV | read_only).map_err(|source| AttachError::System {
        step: Step::CloneDisks,
        call: "mount_setattr",
        source,
    })?;
    Ok(tree)
}

/// Maps a detached mount to the pod's user namespace, and gives it further attributes.
pub(super) fn map(tree: &OwnedFd, user_namespace: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    crate::sys::mount_setattr(tree, &attributes)
}

/// Runs in the pod's mount and UTS namespaces, on a thread of its own.
pub(super) fn switch(trees: &Trees, hostname: Option<&str>, clock: &mut Clock) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old_root = rustix::fs::open("/", flags, Mode::empty()).map_err(failed(Step::Enter, "open"))?;
    clock.step(Step::Enter);
    move_onto(&trees.root, CWD, c"/", Step::MountRoot)?;
    let mounted = MountedRoot { root: &trees.root };
    clock.step(Step::MountRoot);

    let old = HostileRoot::with_mounts(old_root.as_fd());
    let new = HostileRoot::with_mounts(trees.root.as_fd());
    for path in POD_MOUNTS {
        let source = pod_mount(&old, path)?.ok_or(AttachError::MissingMount { path })?;
        mount_at(&source, &new, path, Step::CarryMounts)?;
    }
    carry_service_account(&old, &new, trees.service_account)?;
    if let Some(files) = &trees.files {
        mount_at(files, &new, files::PLACE, Step::CarryMounts)?;
    }
    clock.step(Step::CarryMounts);

    for (tree, path) in &trees.mounts {
        mount_at(tree, &new, path, Step::MountDisks)?;
    }
    clock.step(Step::MountDisks);

    pivot(&trees.root)?;
    std::mem::forget(mounted);
    clock.step(Step::Pivot);

    if let Some(name) = hostname
        && let Err(error) = rustix::system::sethostname(name.as_bytes())
    {
        clock.report.warnings.push(format!("the host name {name:?} was not set: {error}"));
    }
    clock.step(Step::Hostname);
    Ok(())
}

/// The new root while it covers the old one; dropping it uncovers the old one again.
struct MountedRoot<'a> {
    root: &'a OwnedFd,
}

impl Drop for MountedRoot<'_> {
    fn drop(&mut self) {
        // By its own directory, because the pod's /proc (for a path to the descriptor) is not ours to trust.
        if rustix::process::fchdir(self.root).is_ok() {
            let _ = rustix::mount::unmount(c".", UnmountFlags::DETACH);
        }
    }
}

/// A copy of the mount at `path` in the old root with everything below it; `None` if nothing is mounted there. On a
/// re-attach the old root is a tenant's, who can have moved or removed the place in a mount namespace of its own.
fn pod_mount(old: &HostileRoot<'_>, path: &str) -> Result<Option<OwnedFd>> {
    let place = match old.open_dir(path) {
        Ok(Some(place)) => place,
        Ok(None) | Err(SafePathError::NotADirectory { .. }) => return Ok(None),
        Err(source) => return Err(AttachError::Path { step: Step::CarryMounts, source }),
    };
    let stat = rustix::fs::statx(&place, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_err(failed(Step::CarryMounts, "statx"))?;
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(&place, c"", flags).map(Some).map_err(failed(Step::CarryMounts, "open_tree"))
}

/// A pod without a service account token has nothing to carry.
fn carry_service_account(old: &HostileRoot<'_>, new: &HostileRoot<'_>, target: &str) -> Result<()> {
    for path in SERVICE_ACCOUNT {
        if let Some(source) = pod_mount(old, path)? {
            return mount_at(&source, new, target, Step::CarryMounts);
        }
    }
    Ok(())
}

fn mount_at(tree: &OwnedFd, root: &HostileRoot<'_>, path: &str, step: Step) -> Result<()> {
    let missing = || AttachError::System { step, call: "openat2", source: io::ErrorKind::NotFound.into() };
    let target = root.open_dir(path).map_err(unsafe_root)?.ok_or_else(missing)?;
    move_onto(tree, &target, c"", step)
}

fn move_onto(tree: &OwnedFd, directory: impl AsFd, path: &std::ffi::CStr, step: Step) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", directory, path, flags).map_err(failed(step, "move_mount"))
}

/// Makes the mounted tree the root of everybody in the namespace. The old root then lies on top of the new one, at
/// "." (pivot_root(2), "pivot_root(".", ".")").
fn pivot(new_root: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(new_root).map_err(failed(Step::Pivot, "fchdir"))?;
    rustix::process::pivot_root(c".", c".").map_err(failed(Step::Pivot, "pivot_root"))
}

/// Takes the old root away, with all that is mounted in it. To be called where [`switch`] was, after it.
pub(super) fn detach_old_root() {
    // It lies where pivot_root has just put it, so that there is nothing that could be refused.
    let _ = rustix::mount::unmount(c".", UnmountFlags::DETACH);
}
