//! Starting the process of a connection.

use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::process::Pid;
use sparks_proto::SshServer;

use crate::fork::fork;
use crate::{control, launch, log};

/// This very program, wherever its file is since the root was swapped.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Starts `sparks-guest ssh` on `socket`, with what it must know on its standard input: an argument or a variable could
/// be read by every user of the Spark.
///
/// Doesn't wait for that. The caller must reap the process.
///
/// # Errors
/// The kernel's.
pub fn start(socket: OwnedFd, server: &SshServer) -> io::Result<Pid> {
    let mut told = std::fs::File::from(rustix::fs::memfd_create("ssh", MemfdFlags::CLOEXEC)?);
    told.write_all(&serde_json::to_vec(server)?)?;
    told.rewind()?;
    let fd = socket.as_raw_fd();
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("sparks-guest").args(["ssh", "--connection", &fd.to_string()]);
    // It asks by the socket's name whether a key was admitted since.
    let is_told = |name: &std::ffi::OsStr| launch::is_passed_on(name) || name == control::SOCKET_VARIABLE;
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_told(name)));
    command.stdin(Stdio::from(told));
    let in_child = move || {
        launch::default_signals();
        // SAFETY: `socket` outlives the fork, and its number is the same in the child.
        rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(fd) }, FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: the closure only makes system calls; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(in_child) };
    fork(command, |error| log::line(format_args!("ssh: a connection could not be served: {error}")))
}
