//! Starting the service's program.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, setsid};
use sparks_proto::Service;
use tokio::net::unix::pipe;

use crate::fork::fork;
use crate::launch::{self, ExecError, Ids};
use crate::users::{self, User, UserError};

/// Why the service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its user doesn't exist.
    #[error(transparent)]
    User(#[from] UserError),
    /// It has no program.
    #[error("the service's command is empty; name a program")]
    NoCommand,
    /// `/dev/null` or a pipe can't be had.
    #[error("the service's standard input cannot be prepared: {0}")]
    Prepare(#[source] io::Error),
    /// The user can't be taken on.
    #[error("the service cannot become user {user}: {source}")]
    Switch {
        /// Who.
        user: String,
        /// Why.
        source: io::Error,
    },
    /// The working directory can't be entered.
    #[error("the service's working directory {dir} cannot be entered: {source}")]
    Workdir {
        /// Which.
        dir: String,
        /// Why.
        source: io::Error,
    },
    /// The program can't be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// At what a new process is, in what it tells its parent when that fails.
const EXEC: u8 = b'x';
const SWITCH: u8 = b'u';
const WORKDIR: u8 = b'w';

/// Length of that: the stage and an errno.
const MESSAGE: usize = 5;

/// A service whose program is about to be executed.
pub struct Launch {
    /// Its process.
    pub pid: Pid,
    /// Closed by the exec; before that comes a [`MESSAGE`], if it fails.
    told: pipe::Receiver,
    program: String,
    path: String,
    user: String,
    workdir: Workdir,
}

/// Starts the service in a session of its own, and doesn't wait for it.
///
/// The caller must reap the process.
///
/// # Errors
/// [`StartError`], when there is no process.
pub fn start(service: &Service, hostname: &str) -> Result<Launch, StartError> {
    let (program, arguments) = service.command.split_first().ok_or(StartError::NoCommand)?;
    let user = users::load(service.user.as_deref())?;
    let env = environment(service, &user, hostname);
    let workdir = Workdir::of(service, &user);
    let null = File::open("/dev/null").map_err(StartError::Prepare)?;
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (told, tell) = rustix::pipe::pipe_with(flags).map_err(|error| StartError::Prepare(error.into()))?;
    let told = pipe::Receiver::from_owned_fd(told).map_err(StartError::Prepare)?;

    let ids = Ids::from(&user);
    let dir = workdir.for_child()?;
    let stage = Arc::new(AtomicU8::new(EXEC));
    let failed_at = stage.clone();
    let in_child = move || {
        let at = |stage: u8| failed_at.store(stage, Ordering::Relaxed);
        launch::default_signals();
        setsid()?;
        ids.assume().inspect_err(|_| at(SWITCH))?;
        dir.enter().inspect_err(|_| at(WORKDIR))
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::from(null));
    // SAFETY: the closure only makes system calls on values that were prepared before the fork; it neither allocates
    // nor takes a lock.
    unsafe { command.pre_exec(in_child) };
    // What has a NUL in it std refuses without an errno.
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EINVAL).to_be_bytes();
    let failed = |error| {
        let [a, b, c, d] = errno(error);
        let _ = rustix::io::write(&tell, &[stage.load(Ordering::Relaxed), a, b, c, d]);
    };
    let path = launch::last(&env, "PATH").unwrap_or(launch::DEFAULT_PATH).to_owned();
    match fork(command, failed) {
        Ok(pid) => Ok(Launch { pid, told, program: program.clone(), path, user: user.name, workdir }),
        Err(source) => Err(ExecError::explain(OsStr::new(program), &path, &workdir.wanted, source).into()),
    }
}

impl Launch {
    /// Waits until the program was executed, or could not be.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn outcome(&self) -> Result<(), StartError> {
        loop {
            let mut message = [0; MESSAGE];
            // What can't be waited for has ended.
            if self.told.readable().await.is_err() {
                return Ok(());
            }
            match self.told.try_read(&mut message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return self.understand(&message[..read.unwrap_or(0)]),
            }
        }
    }

    /// The same of a process that has ended; one that was killed on its way has said nothing.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn last_words(&self) -> Result<(), StartError> {
        let mut message = [0; MESSAGE];
        // Not by way of the runtime, which may not have heard yet that there is something to read.
        let read = rustix::io::read(&self.told, &mut message).unwrap_or(0);
        self.understand(&message[..read])
    }

    fn understand(&self, message: &[u8]) -> Result<(), StartError> {
        let Some((stage, errno)) = message.split_first() else { return Ok(()) };
        let errno = errno.try_into().map_or(libc::EIO, i32::from_be_bytes);
        Err(self.explain(*stage, io::Error::from_raw_os_error(errno)))
    }

    fn explain(&self, stage: u8, source: io::Error) -> StartError {
        match stage {
            SWITCH => StartError::Switch { user: self.user.clone(), source },
            WORKDIR => self.workdir.error(source),
            _ => {
                let program = OsStr::new(&self.program);
                ExecError::explain(program, &self.path, &self.workdir.wanted, source).into()
            }
        }
    }
}

/// The service's whole environment; the Spark's own entries win.
fn environment(service: &Service, user: &User, hostname: &str) -> Vec<(String, String)> {
    let mut env = launch::login_environment(user, hostname);
    env.push(("PORT".into(), service.port.to_string()));
    env.extend(service.env.iter().cloned());
    env
}

/// Where the service begins.
struct Workdir {
    wanted: PathBuf,
    /// A home directory that doesn't exist is `/`, as it is for login; one that was asked for must exist.
    required: bool,
}

impl Workdir {
    fn of(service: &Service, user: &User) -> Self {
        match service.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
            Some(dir) => Self { wanted: dir.into(), required: true },
            None => Self { wanted: user.home.clone().into(), required: false },
        }
    }

    fn error(&self, source: io::Error) -> StartError {
        StartError::Workdir { dir: self.wanted.display().to_string(), source }
    }

    fn for_child(&self) -> Result<ChildDir, StartError> {
        let path =
            CString::new(self.wanted.as_os_str().as_bytes()).map_err(|error| self.error(error.into()))?;
        Ok(ChildDir { path, required: self.required })
    }
}

/// A [`Workdir`] that can be entered without an allocation.
struct ChildDir {
    path: CString,
    required: bool,
}

impl ChildDir {
    fn enter(&self) -> io::Result<()> {
        match rustix::process::chdir(self.path.as_c_str()) {
            Err(_) if !self.required => rustix::process::chdir(c"/")?,
            other => other?,
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "app".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/app".into(),
            shell: None,
        }
    }

    #[test]
    fn the_environment_is_a_login_with_the_port_and_the_sparks_entries_win() {
        let service = Service {
            port: 8080,
            env: vec![("A".into(), "1".into()), ("PATH".into(), "/opt".into()), ("A".into(), "2".into())],
            ..Service::default()
        };
        let env = environment(&service, &user(), "api");
        let value = |name| launch::last(&env, name);
        assert_eq!(value("HOME"), Some("/home/app"));
        assert_eq!((value("USER"), value("LOGNAME")), (Some("app"), Some("app")));
        assert_eq!((value("SHELL"), value("LANG")), (Some("/bin/sh"), Some("C.UTF-8")));
        assert_eq!((value("PORT"), value("HOSTNAME")), (Some("8080"), Some("api")));
        assert_eq!((value("A"), value("PATH")), (Some("2"), Some("/opt")));
    }

    #[test]
    fn only_a_working_directory_that_was_asked_for_must_exist() {
        let asked = Service { working_dir: Some("/nowhere".into()), ..Service::default() };
        assert!(Workdir::of(&asked, &user()).required);
        let home = Workdir::of(&Service::default(), &user());
        assert_eq!((home.wanted.to_str(), home.required), (Some("/home/app"), false));
    }

    #[test]
    fn a_service_without_a_command_gets_a_sentence() {
        assert!(matches!(start(&Service::default(), "h"), Err(StartError::NoCommand)));
    }
}
