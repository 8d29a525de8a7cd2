//! This process itself: its limits, its time to log in, its user.

use std::io;
use std::sync::OnceLock;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, setsid,
};

use crate::launch::Ids;
use crate::users::User;

/// How long a peer may take to log in, in seconds; sshd's LoginGraceTime allows 120.
pub const LOGIN_GRACE: u32 = 60;

/// The limit of open files that this process was started with, for the programs that it starts: some use select(2).
static FILES: OnceLock<Rlimit> = OnceLock::new();

/// Prepares a process that holds the host key and is about to speak with a stranger.
///
/// # Errors
/// The kernel's.
pub fn prepare() -> io::Result<()> {
    // What ps and top show, instead of the "exe" that it was started by.
    rustix::thread::set_name(c"sparks-ssh")?;
    // Not even a core dump is to have the host key in it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    close_on_exec();
    hear_of_children();
    // By the kernel, so that nothing in this process can put it off.
    alarm(LOGIN_GRACE);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    let _ = FILES.set(files);
    Ok(())
}

/// The limit of open files for programs.
pub fn files() -> Option<Rlimit> {
    FILES.get().copied()
}

/// Somebody has logged in, and who is known: no time limit any more, and PID 1 sees by the session that this is no stranger.
pub fn logged_in() {
    alarm(0);
    // Fails where it leads one already, as with `kubectl exec`.
    let _ = setsid();
}

/// Becomes the user for good.
///
/// # Errors
/// The kernel's.
pub fn become_user(user: &User) -> io::Result<()> {
    Ids::from(user).assume()?;
    // The kernel decides anew whenever the ids change, by the sysctl fs.suid_dumpable.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// No program is to get what the container runtime may have left open.
fn close_on_exec() {
    // SAFETY: changes flags of file descriptors only.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Whoever started this may ignore the ends of its children, and that is inherited: their status would be lost.
fn hear_of_children() {
    // SAFETY: sets a disposition, before anything else uses that signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

fn alarm(seconds: u32) {
    // SAFETY: without effect on memory; nothing else in this process uses SIGALRM, which ends it.
    unsafe { libc::alarm(seconds) };
}
