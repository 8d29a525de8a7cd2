//! Whether anybody uses the computer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::processes::Process;

/// How often the watch looks.
const PERIOD: Duration = Duration::from_secs(5);

/// How soon after a Spark arrived the watch looks first.
const FIRST: Duration = Duration::from_secs(1);

/// Remembers since when a computer has been idle.
#[derive(Debug)]
pub struct IdleWatch {
    next: Instant,
    /// `None` until the first look.
    last: Option<Use>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    InUse,
    IdleSince(Instant),
}

impl IdleWatch {
    /// A watch over a computer that began to run now.
    pub fn new(now: Instant) -> Self {
        Self { next: now + FIRST, last: None }
    }

    /// When to look next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Notes what a look found and says whether that is news.
    pub fn note(&mut self, in_use: bool, now: Instant) -> bool {
        self.next = now + PERIOD;
        let seen = match (in_use, self.last) {
            (true, _) => Use::InUse,
            (false, Some(Use::IdleSince(since))) => Use::IdleSince(since),
            (false, _) => Use::IdleSince(now),
        };
        self.last.replace(seen) != Some(seen)
    }

    /// What the agent is told: `None` before the first look, else the seconds of being idle, if idle.
    pub fn report(&self, now: Instant) -> Option<Option<u64>> {
        self.last.map(|last| match last {
            Use::InUse => None,
            Use::IdleSince(since) => Some(now.saturating_duration_since(since).as_secs()),
        })
    }
}

/// Whether anything but the service runs, or a terminal is open.
///
/// To the service belong its descendants and what is left in its session. A daemon that it started and that left both
/// can't be told from one that a user left running, and counts as use.
pub fn in_use(others: &[Process], service: Option<Pid>, terminals: usize) -> bool {
    if terminals > 0 {
        return true;
    }
    let Some(service) = service.map(Pid::as_raw_pid) else { return !others.is_empty() };
    let mut tree = HashSet::from([service]);
    loop {
        let before = tree.len();
        for process in others {
            if process.session == service || tree.contains(&process.parent) {
                tree.insert(process.pid);
            }
        }
        if tree.len() == before {
            break;
        }
    }
    others.iter().any(|process| !tree.contains(&process.pid))
}

/// How many pseudo-terminals are open; devpts has an entry for each, beside `ptmx`.
pub fn terminals() -> usize {
    std::fs::read_dir("/dev/pts").map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok()))
            .count()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process { pid, name: "p".into(), parent, session, zombie: false }
    }

    fn service() -> Option<Pid> {
        Pid::from_raw(10)
    }

    #[test]
    fn the_service_and_its_descendants_are_no_use() {
        // The grandchild comes first: order in /proc is by id, and ids wrap.
        let tree = [process(5, 11, 5), process(10, 1, 10), process(11, 10, 11)];
        assert!(!in_use(&tree, service(), 0));
    }

    #[test]
    fn an_orphan_in_the_services_session_is_no_use() {
        assert!(!in_use(&[process(10, 1, 10), process(12, 1, 10)], service(), 0));
    }

    #[test]
    fn any_other_process_is_use() {
        assert!(in_use(&[process(10, 1, 10), process(20, 0, 20)], service(), 0));
        assert!(in_use(&[process(20, 1, 20)], None, 0));
        assert!(!in_use(&[], None, 0));
    }

    #[test]
    fn an_open_terminal_is_use() {
        assert!(in_use(&[], None, 1));
    }

    #[test]
    fn only_changes_are_news_and_the_seconds_count_from_the_first_idle_look() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = IdleWatch::new(start);
        assert_eq!(watch.report(start), None);
        assert!(watch.note(true, at(1)));
        assert_eq!(watch.report(at(1)), Some(None));
        assert!(!watch.note(true, at(6)));
        assert!(watch.note(false, at(11)));
        assert!(!watch.note(false, at(16)));
        assert_eq!(watch.report(at(21)), Some(Some(10)));
        assert!(watch.note(true, at(26)));
    }

    #[test]
    fn looks_are_at_least_a_second_apart() {
        let start = Instant::now();
        let mut watch = IdleWatch::new(start);
        assert!(watch.next() >= start + Duration::from_secs(1));
        watch.note(false, start);
        assert!(watch.next() >= start + Duration::from_secs(1));
    }
}
