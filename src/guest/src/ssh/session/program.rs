//! Starting the program of a session.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, setrlimit};
use tokio::process::Child;

use super::environment::Environment;
use super::invocation::Invocation;
use super::terminal::Slave;
use crate::launch::{self, DEFAULT_PATH, ExecError};
use crate::ssh::process;

/// A program under way.
pub struct Program {
    /// The process, which leads a session and a group of its own.
    pub child: Child,
    /// Its id, and its group's.
    pub pid: Pid,
}

/// Our ends of a program's standard streams, where it has no terminal.
pub struct Pipes {
    /// Where it reads.
    pub stdin: OwnedFd,
    /// What it writes.
    pub stdout: OwnedFd,
    /// What it complains about.
    pub stderr: OwnedFd,
}

/// The program's ends of its standard streams.
pub struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    is_terminal: bool,
}

impl Streams {
    /// A terminal for all three.
    ///
    /// # Errors
    /// The kernel's.
    pub fn terminal(slave: &Slave) -> io::Result<Self> {
        let clone = || slave.try_clone();
        Ok(Self { stdin: clone()?, stdout: clone()?, stderr: clone()?, is_terminal: true })
    }

    /// A pipe for each, as with sshd: a program may close one of them alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pipes() -> io::Result<(Self, Pipes)> {
        let (stdin, our_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (our_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipes = Pipes { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr };
        Ok((Self { stdin, stdout, stderr, is_terminal: false }, pipes))
    }
}

/// Starts it, in the user's home.
///
/// # Errors
/// [`ExecError`], with a sentence for the user and a shell's exit code.
pub fn start(
    invocation: &Invocation,
    env: &Environment,
    home: &str,
    streams: Streams,
) -> Result<Program, ExecError> {
    let mut command = Command::new(&invocation.program);
    command.arg0(&invocation.name).args(&invocation.arguments).env_clear().envs(env.iter());
    let Streams { stdin, stdout, stderr, is_terminal } = streams;
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let explain = |source| ExecError::explain(&invocation.program, DEFAULT_PATH, Path::new("/"), source);
    let home = Home::of(home).map_err(explain)?;
    let in_child = move || {
        launch::default_signals();
        if let Some(files) = process::files() {
            let _ = setrlimit(Resource::Nofile, files);
        }
        rustix::process::setsid()?;
        if is_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        home.enter();
        Ok(())
    };
    // SAFETY: the closure only makes system calls on values that were prepared before the fork; it neither allocates
    // nor takes a lock.
    unsafe { command.pre_exec(in_child) };
    let child = tokio::process::Command::from(command).spawn().map_err(explain)?;
    match child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        Some(pid) => Ok(Program { child, pid }),
        None => Err(explain(io::ErrorKind::NotFound.into())),
    }
}

/// A home directory, and what is said when there is none.
struct Home {
    path: CString,
    complaint: String,
}

impl Home {
    fn of(home: &str) -> io::Result<Self> {
        let complaint =
            format!("Could not chdir to home directory {home}: it does not exist or is closed to you\r\n");
        Ok(Self { path: CString::new(home)?, complaint })
    }

    /// Goes there, or to `/`. Between fork and exec.
    fn enter(&self) {
        if rustix::process::chdir(self.path.as_c_str()).is_err() {
            let _ = rustix::io::write(rustix::stdio::stderr(), self.complaint.as_bytes());
            let _ = rustix::process::chdir(c"/");
        }
    }
}
