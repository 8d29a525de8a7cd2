//! What starting a program takes, for the service and for `enter` alike: environment, user, and an error one can read.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};
use rustix::process::{getegid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::users::User;

/// `PATH` of everything that is started in a Spark.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `LANG` unless something else is said.
const DEFAULT_LANG: &str = "C.UTF-8";

/// `SHELL` of a user whose database entry names none, as in passwd(5).
pub const DEFAULT_SHELL: &str = "/bin/sh";

/// The environment that a login of `user` begins with.
pub fn login_environment(user: &User, hostname: &str) -> Vec<(String, String)> {
    [
        ("PATH", DEFAULT_PATH),
        ("LANG", DEFAULT_LANG),
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", user.shell.as_deref().unwrap_or(DEFAULT_SHELL)),
        ("HOSTNAME", hostname),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Whether a login gets that variable of the pod's own environment.
pub fn is_passed_on(name: &OsStr) -> bool {
    name == "TZ" || name.as_bytes().starts_with(b"KUBERNETES_")
}

/// Whether there is a program, as sshd looks at a user's shell.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// The last value of `name` in an ordered environment.
pub fn last<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The ids of a user, ready to be taken on without an allocation between fork and exec.
#[derive(Debug)]
pub struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl From<&User> for Ids {
    fn from(user: &User) -> Self {
        Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: user.groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }
}

impl Ids {
    /// Becomes that user for good. Only for a process with a single thread, because the ids are the thread's.
    ///
    /// # Errors
    /// The kernel's; being that user already is none, even in a pod that may not set groups.
    pub fn assume(&self) -> io::Result<()> {
        let already = geteuid() == self.uid && getegid() == self.gid;
        match set_thread_groups(&self.groups) {
            Err(rustix::io::Errno::PERM) if already => return Ok(()),
            other => other?,
        }
        set_thread_gid(self.gid)?;
        set_thread_uid(self.uid)?;
        Ok(())
    }
}

/// Gives every signal its default disposition: an ignored one would stay ignored across exec. std has already emptied
/// the mask. By system call, because the C library keeps two signals (32, 33) to itself, and glibc's posix_spawn leaves
/// just those ignored.
pub fn default_signals() {
    /// `_NSIG` of every architecture but MIPS.
    const SIGNALS: i32 = 64;
    // The kernel's `struct sigaction`: SIG_DFL, no flags, an empty mask.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads a sigaction from `default`, which is as large as one; the process is about to exec,
        // and for SIGKILL and SIGSTOP the call fails without effect.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Why a program could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such file.
    #[error(
        "command not found: {command}; it must exist in the Spark, in PATH ({path}) or as a path of its own"
    )]
    NotFound {
        /// The program.
        command: String,
        /// Where it was looked for.
        path: String,
    },
    /// The file exists, and what its first line or ELF header names doesn't.
    #[error("{command} cannot run, because the interpreter that it names is not in the Spark")]
    NoInterpreter {
        /// The program.
        command: String,
    },
    /// No permission.
    #[error("permission denied: {command}; is it an executable file?")]
    NotExecutable {
        /// The program.
        command: String,
    },
    /// Neither ELF of this machine nor a script with `#!`.
    #[error("{command} is no program for this machine; a script needs a #! line")]
    NotAProgram {
        /// The program.
        command: String,
    },
    /// Anything else.
    #[error("{command} cannot be executed: {source}")]
    Other {
        /// The program.
        command: String,
        /// The kernel's words.
        source: io::Error,
    },
}

impl ExecError {
    /// Explains the error of an `execvp` of `command` with that `PATH`, done in `workdir`.
    pub fn explain(command: &OsStr, path: &str, workdir: &Path, source: io::Error) -> Self {
        let name = command.to_string_lossy().into_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if exists(command, path, workdir) => {
                Self::NoInterpreter { command: name }
            }
            Some(libc::ENOENT | libc::ENOTDIR) => Self::NotFound { command: name, path: path.into() },
            Some(libc::EACCES) => Self::NotExecutable { command: name },
            Some(libc::ENOEXEC) => Self::NotAProgram { command: name },
            _ => Self::Other { command: name, source },
        }
    }

    /// What a shell exits with for this: 127 for a missing program, else 126.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter { .. } => 127,
            Self::NotExecutable { .. } | Self::NotAProgram { .. } | Self::Other { .. } => 126,
        }
    }
}

/// Whether `execvp` had a file to try.
fn exists(command: &OsStr, path: &str, workdir: &Path) -> bool {
    if command.is_empty() {
        return false;
    }
    if command.as_bytes().contains(&b'/') {
        return workdir.join(command).exists();
    }
    path.split(':').any(|dir| workdir.join(PathBuf::from(dir)).join(command).is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn explain(command: &str, errno: i32) -> ExecError {
        ExecError::explain(
            OsStr::new(command),
            "/usr/bin:/bin",
            Path::new("/"),
            io::Error::from_raw_os_error(errno),
        )
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(explain("no-such-command", libc::ENOENT).exit_code(), 127);
        assert_eq!(explain("/etc/passwd", libc::EACCES).exit_code(), 126);
        assert_eq!(explain("/etc/passwd", libc::ENOEXEC).exit_code(), 126);
    }

    #[test]
    fn a_missing_interpreter_is_not_a_missing_command() {
        assert!(matches!(explain("sh", libc::ENOENT), ExecError::NoInterpreter { .. }));
        assert!(matches!(explain("bin/sh", libc::ENOENT), ExecError::NoInterpreter { .. }));
        assert!(explain("nope", libc::ENOENT).to_string().starts_with("command not found: nope;"));
    }

    #[test]
    fn of_several_values_the_last_counts() {
        let env = [("A", "1"), ("B", "2"), ("A", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(last(&env, "A"), Some("3"));
        assert_eq!(last(&env, "C"), None);
    }
}
