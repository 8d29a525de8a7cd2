//! Which process is a container's init.

use std::fs;

use super::{Container, ContainerError, Result};

/// A process of a container that is PID 1 of some PID namespace.
#[derive(Clone, Copy)]
struct Candidate {
    pid: i32,
    /// How many PID namespaces deep it is. A tenant can make further ones, but only deeper.
    depth: usize,
}

pub(super) fn find(id: &str) -> Result<Container> {
    check_id(id)?;
    let candidates: Vec<_> = all_processes().filter_map(|pid| candidate(pid, id)).collect();
    let Some(depth) = candidates.iter().map(|candidate| candidate.depth).min() else {
        return Err(ContainerError::NotFound(id.to_owned()));
    };
    let pids: Vec<_> = candidates.iter().filter(|it| it.depth == depth).map(|it| it.pid).collect();
    let [pid] = pids[..] else { return Err(ContainerError::Ambiguous { id: id.to_owned(), pids }) };
    let container = Container::of_process(id, pid)?;
    // The process may have ended before the pidfd was opened, and its number may be somebody else's now.
    let still_it = candidate(pid, id).is_some();
    container.check_alive()?;
    if still_it { Ok(container) } else { Err(ContainerError::Gone(id.to_owned())) }
}

fn check_id(id: &str) -> Result<()> {
    let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex && (12..=64).contains(&id.len()) { Ok(()) } else { Err(ContainerError::BadId(id.to_owned())) }
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn candidate(pid: i32, id: &str) -> Option<Candidate> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if !is_in_container(&cgroups, id) {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    init_depth(&status).map(|depth| Candidate { pid, depth })
}

/// Whether `/proc/<pid>/cgroup` puts a process into the container. Both drivers have the ID in a component of its own:
/// cgroupfs as `…/pod<uid>/<id>`, systemd as `…/cri-containerd-<id>.scope`. From within a cgroup namespace the path
/// begins with `/../..`, which changes nothing here.
fn is_in_container(cgroups: &str, id: &str) -> bool {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.flat_map(|path| path.split('/')).any(|component| {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        name.strip_suffix(id).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['-', ':']))
    })
}

/// The number of PID namespaces a process is in, if it is PID 1 of the innermost and not of the host.
fn init_depth(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let pids: Vec<&str> = line.split_whitespace().collect();
    (pids.len() >= 2 && pids.last() == Some(&"1")).then_some(pids.len())
}

/// Field 22 of `/proc/<pid>/stat`. The second field is a name in parentheses that may hold anything.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_id_is_found_with_both_cgroup_versions_and_both_drivers() {
        for line in [
            format!("0::/kubepods/burstable/pod1-2-3/{ID}"),
            format!("0::/../../pod1-2-3/{ID}"),
            format!("12:memory:/kubepods/pod1/{ID}\n0::/"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("0::/kubepods.slice/crio-{ID}.scope/container"),
            format!("3:cpu:/system.slice:cri-containerd:{ID}"),
        ] {
            assert!(is_in_container(&line, ID), "{line}");
        }
    }

    #[test]
    fn a_part_of_another_name_is_not_the_id() {
        let short = &ID[..12];
        for line in [format!("0::/pod/{ID}"), format!("0::/pod/x{short}"), "0::/".into()] {
            assert!(!is_in_container(&line, short), "{line}");
        }
    }

    #[test]
    fn an_id_that_would_match_many_cgroups_is_refused() {
        for id in ["", "abc", "containerd://0123456789abcdef", "../../../../etc"] {
            assert!(matches!(find(id), Err(ContainerError::BadId(_))), "{id}");
        }
    }

    #[test]
    fn only_pid_1_of_a_namespace_below_the_hosts_is_an_init() {
        assert_eq!(init_depth("Name:\tx\nNSpid:\t4711\t1\n"), Some(2));
        assert_eq!(init_depth("NSpid:\t4711\t12\t1\n"), Some(3));
        assert_eq!(init_depth("NSpid:\t4711\t12\n"), None);
        assert_eq!(init_depth("NSpid:\t1\n"), None);
    }
}
