//! The processes of the pod, as `/proc` shows them.

use std::io;

use rustix::process::Pid;

/// One process, of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its program's short name.
    pub name: String,
    /// Its parent; 0 for one that `kubectl exec` put here from outside.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Whether it has ended and only waits to be reaped: such a process holds nothing any more.
    pub zombie: bool,
}

/// Every process of the pod but PID 1 and those that have ended.
///
/// # Errors
/// Only when `/proc` itself can't be listed.
pub fn others() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == Pid::INIT.as_raw_pid() {
            continue;
        }
        // One that is gone by now is none.
        let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        found.extend(parse(pid, &String::from_utf8_lossy(&stat)).filter(|process| !process.zombie));
    }
    Ok(found)
}

/// Parses `PID (NAME) STATE PPID PGRP SESSION …`; the name may hold anything, parentheses and spaces too.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, name: name.into(), parent, session, zombie: matches!(state, "Z" | "X" | "x") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let process = parse(7, "7 (a) R 9 (b) S 3 5 6 0 -1").unwrap();
        assert_eq!(
            process,
            Process { pid: 7, name: "a) R 9 (b".into(), parent: 3, session: 6, zombie: false }
        );
    }

    #[test]
    fn an_ended_process_is_a_zombie() {
        assert!(parse(7, "7 (a) Z 1 5 6 0 -1").unwrap().zombie);
    }

    #[test]
    fn this_process_is_among_the_others() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(others().unwrap().iter().any(|process| process.pid == me));
    }
}
