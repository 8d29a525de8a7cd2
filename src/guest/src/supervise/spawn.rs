//! Starting the service's program.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, setsid};
use sparks_proto::Service;

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

/// What a new process tells its parent when taking on the user fails.
const SWITCH: u8 = b'u';

/// What a new process tells its parent when it can't enter the working directory.
const WORKDIR: u8 = b'w';

/// Starts the service in a session of its own. Returns when its program was executed: std learns that through a
/// close-on-exec pipe.
///
/// The caller must reap the process.
///
/// # Errors
/// [`StartError`].
pub fn start(service: &Service, hostname: &str) -> Result<Pid, StartError> {
    let (program, arguments) = service.command.split_first().ok_or(StartError::NoCommand)?;
    let user = users::load(service.user.as_deref())?;
    let env = environment(service, &user, hostname);
    let workdir = Workdir::of(service, &user);
    let null = File::open("/dev/null").map_err(StartError::Prepare)?;
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (failed_stage, tell_stage) =
        rustix::pipe::pipe_with(flags).map_err(|error| StartError::Prepare(error.into()))?;

    let ids = Ids::from(&user);
    let dir = workdir.for_child()?;
    let in_child = move || {
        let tell = |stage: u8| {
            let _ = rustix::io::write(&tell_stage, &[stage]);
        };
        launch::default_signals();
        setsid()?;
        ids.assume().inspect_err(|_| tell(SWITCH))?;
        dir.enter().inspect_err(|_| tell(WORKDIR))
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::from(null));
    // SAFETY: the closure only makes system calls on values that were prepared before the fork; it neither allocates
    // nor takes a lock.
    unsafe { command.pre_exec(in_child) };

    let source = match command.spawn() {
        Ok(child) => return Ok(Pid::from_child(&child)),
        Err(source) => source,
    };
    let mut stage = [0];
    // The pipe doesn't block; it is empty when it was the exec that failed.
    let _ = rustix::io::read(&failed_stage, &mut stage);
    Err(match stage[0] {
        SWITCH => StartError::Switch { user: user.name, source },
        WORKDIR => workdir.error(source),
        _ => {
            let path = launch::last(&env, "PATH").unwrap_or(launch::DEFAULT_PATH);
            ExecError::explain(OsStr::new(program), path, &workdir.wanted, source).into()
        }
    })
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
