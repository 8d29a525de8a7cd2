//! Starting a program without waiting for it.
//!
//! std's `spawn` returns once the program was executed. Until then the child can be held up for as long as root of the
//! Spark likes: it stops it, or has a lease on its file. PID 1 has one thread, and waits for nobody.

use std::io;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use rustix::process::Pid;

/// Exit code of a child that could not execute its program, as a shell's.
const FAILED_EXIT: i32 = 127;

/// Forks, and returns at once. The child executes `command`; if that fails, it calls `failed` and ends.
///
/// The caller must reap the process, and have no other thread.
///
/// # Errors
/// The kernel's, when there is no child.
pub fn fork(mut command: Command, failed: impl FnOnce(io::Error)) -> io::Result<Pid> {
    // SAFETY: there is no other thread that could have held a lock or been in the middle of something, so that all is in
    // order in the child, which may even allocate. It never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // A panic must not unwind into PID 1's loop, of which this is a copy.
            let _ = catch_unwind(AssertUnwindSafe(|| failed(command.exec())));
            // SAFETY: ends this process, and runs nothing of PID 1's on the way.
            unsafe { libc::_exit(FAILED_EXIT) }
        }
        pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::NotFound.into()),
    }
}
