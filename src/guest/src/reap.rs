//! Reaping: PID 1 collects every process of the pod that ends, its own child and orphans alike.
//!
//! Nothing else in PID 1 may wait for a process, because whoever waits first takes the status.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With that status.
    Status(i32),
    /// By that signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(libc::SIGKILL) => f.write_str("was killed (signal 9)"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

impl Exit {
    fn of(status: WaitStatus) -> Option<Self> {
        status.exit_status().map(Self::Status).or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

/// Collects everything that has ended by now. SIGCHLD is not counted by the kernel: one may stand for many.
pub fn collect(mut ended: impl FnMut(Pid, Exit)) {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = Exit::of(status) {
                    ended(pid, exit);
                }
            }
            Err(Errno::INTR) => {}
            // Nobody has ended, or there is nobody (ECHILD).
            Ok(None) | Err(_) => return,
        }
    }
}
