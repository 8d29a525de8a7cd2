//! The host side: mount points and links, made in the subvolumes before they are mapped.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::plan::{AttachError, AttachPlan, MountPath, PlannedMount, Step};
use super::{POD_MOUNTS, Result, SERVICE_ACCOUNT, files};
use crate::safe_path::{HostileRoot, SafePathError};

/// What the switch needs to know.
pub(super) struct Prepared {
    /// Where the service account goes.
    pub service_account: &'static str,
    /// The plan's mounts by index, outer ones before those inside them.
    pub order: Vec<usize>,
    /// The pod's files, to be mounted at [`files::PLACE`].
    pub files: Option<OwnedFd>,
}

pub(super) fn prepare(
    plan: &AttachPlan<'_>,
    user_namespace: BorrowedFd<'_>,
    warnings: &mut Vec<String>,
) -> Result<Prepared> {
    let root = HostileRoot::without_mounts(plan.root);
    for path in POD_MOUNTS {
        root.ensure_dir(path).map_err(unsafe_root)?;
    }
    let service_account = service_account_place(&root)?;
    let order = mount_order(&plan.mounts)?;
    for &index in &order {
        let (disk, path) = place_of(plan, &plan.mounts[index].path);
        HostileRoot::without_mounts(disk).ensure_dir(path).map_err(unsafe_root)?;
    }
    let files = files::prepare(&root, &plan.files, user_namespace, warnings);
    Ok(Prepared { service_account, order, files })
}

pub(super) fn unsafe_root(error: SafePathError) -> AttachError {
    match error {
        SafePathError::NotADirectory { path, found } => AttachError::UnsafeRoot { path, found },
        source => AttachError::Path { step: Step::Prepare, source },
    }
}

fn service_account_place(root: &HostileRoot<'_>) -> Result<&'static str> {
    let [usual, without_link] = SERVICE_ACCOUNT;
    match root.ensure_dir(usual) {
        Ok(_) => Ok(usual),
        Err(SafePathError::NotADirectory { path, .. }) if path == "var/run" => {
            root.ensure_dir(without_link).map_err(unsafe_root)?;
            Ok(without_link)
        }
        Err(error) => Err(unsafe_root(error)),
    }
}

/// Paths sort before what is below them. Two mounts at one place are a mistake of the plan.
fn mount_order(mounts: &[PlannedMount<'_>]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..mounts.len()).collect();
    order.sort_by(|a, b| mounts[*a].path.cmp(&mounts[*b].path));
    for pair in order.windows(2) {
        if mounts[pair[0]].path == mounts[pair[1]].path {
            let path = format!("/{}", mounts[pair[0]].path.relative());
            return Err(AttachError::MountPath { path, reason: "is used twice" });
        }
    }
    Ok(order)
}

/// The subvolume that a mount path is in, and the path in there: the root, or the innermost other mount above it.
fn place_of<'a>(plan: &AttachPlan<'a>, path: &'a MountPath) -> (BorrowedFd<'a>, &'a str) {
    let above = plan.mounts.iter().filter_map(|mount| Some((mount.disk, path.below(&mount.path)?)));
    above.min_by_key(|(_, rest)| rest.len()).unwrap_or((plan.root, path.relative()))
}
