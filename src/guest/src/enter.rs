//! `enter`: a command, or a login shell, as a user of the Spark. Run by `kubectl exec`, whose process it becomes.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Gid, Mode, Uid};
use rustix::termios::Winsize;

use crate::launch::{self, ExecError, Ids};
use crate::users::{self, User, UserError};

/// Exit code of a failure before the command could be tried, as that of env(1).
const FAILED_EXIT: u8 = 125;

/// Shells for a user whose own one is missing.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Shells that understand `-c 'exec "$@"'`.
const BOURNE: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"];

/// Group that owns terminals, by convention of every distribution.
const TTY_GROUP: u32 = 5;

/// What `enter` is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnterOptions {
    /// Size that the terminal gets before anything else.
    pub tty_size: Option<TtySize>,
    /// User name or `uid[:gid]`; root without one.
    pub user: Option<String>,
    /// Working directory; the user's home without one.
    pub workdir: Option<PathBuf>,
    /// Additions to the environment, in order.
    pub env: Vec<(String, String)>,
    /// Run the command through the login shell.
    pub login: bool,
    /// Program and arguments; the login shell when empty.
    pub command: Vec<OsString>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtySize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub cols: u16,
}

/// Why a command could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The user doesn't exist.
    #[error(transparent)]
    User(#[from] UserError),
    /// The user can't be taken on.
    #[error("cannot become user {user}: {source}")]
    Switch {
        /// Who.
        user: String,
        /// Why.
        source: io::Error,
    },
    /// The working directory can't be entered.
    #[error("the working directory {dir} cannot be entered: {source}")]
    Workdir {
        /// Which.
        dir: String,
        /// Why.
        source: io::Error,
    },
    /// There is no shell.
    #[error("the Spark has no shell ({}); name a command", SHELLS.join(", "))]
    NoShell,
    /// The command can't be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl EnterError {
    /// A shell's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec(error) => error.exit_code(),
            Self::NoShell => 127,
            Self::User(_) | Self::Switch { .. } | Self::Workdir { .. } => FAILED_EXIT,
        }
    }
}

/// Becomes the command; returns only when that fails.
pub fn enter(options: EnterOptions) -> EnterError {
    let Err(error) = try_enter(options);
    error
}

fn try_enter(options: EnterOptions) -> Result<Infallible, EnterError> {
    // First of all, so that no program ever sees another size: kubectl's own resize arrives later, if at all.
    if let Some(size) = options.tty_size {
        set_size(size);
    }
    let user = users::load(options.user.as_deref())?;
    let env = environment(&user, &hostname(), inherited(), &options.env);
    give_terminal(&user);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ids::from(&user).assume().map_err(|source| EnterError::Switch { user: user.name.clone(), source })?;
    let workdir = change_directory(options.workdir.as_deref(), &user)?;
    let invocation = Invocation::of(&user, options.command, options.login, &|path| path.is_file())?;
    let error = Command::new(&invocation.program)
        .arg0(&invocation.name)
        .args(&invocation.arguments)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .exec();
    let path = launch::last(&env, "PATH").unwrap_or(launch::DEFAULT_PATH);
    Err(ExecError::explain(&invocation.program, path, &workdir, error).into())
}

/// Sets the size of the terminal on standard input; without a terminal there is nothing to set.
fn set_size(size: TtySize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = rustix::termios::tcsetwinsize(rustix::stdio::stdin(), size);
}

/// Makes the user own its terminal, as login(1) does: otherwise nothing that opens it by name (tmux, gpg) works.
fn give_terminal(user: &User) {
    let terminal = rustix::stdio::stdin();
    if rustix::termios::isatty(terminal) {
        let _ = rustix::fs::fchown(terminal, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(TTY_GROUP)));
        let _ = rustix::fs::fchmod(terminal, Mode::from_raw_mode(0o620));
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The environment that it was run with, as far as it is text.
fn inherited() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A login environment. Of the one that it was run with, which is the warm pod's, only what belongs to the terminal,
/// to the language and to Kubernetes is kept.
fn environment(
    user: &User,
    hostname: &str,
    inherited: impl Iterator<Item = (String, String)>,
    added: &[(String, String)],
) -> Vec<(String, String)> {
    let mut env = launch::login_environment(user, hostname);
    env.extend(inherited.filter(|(name, _)| {
        matches!(name.as_str(), "TERM" | "COLORTERM" | "LANG" | "LANGUAGE" | "TZ")
            || name.starts_with("LC_")
            || name.starts_with("KUBERNETES_")
    }));
    env.extend(added.iter().cloned());
    env
}

/// Enters the directory that was asked for, else the home directory, else `/`, and returns it.
fn change_directory(asked: Option<&Path>, user: &User) -> Result<PathBuf, EnterError> {
    let (wanted, required) = match asked {
        Some(dir) => (dir, true),
        None => (Path::new(&user.home), false),
    };
    match std::env::set_current_dir(wanted) {
        Ok(()) => Ok(wanted.into()),
        Err(_) if !required && std::env::set_current_dir("/").is_ok() => Ok("/".into()),
        Err(source) => Err(EnterError::Workdir { dir: wanted.display().to_string(), source }),
    }
}

/// What is executed.
#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    program: OsString,
    /// `argv[0]`; a leading dash makes a login shell.
    name: OsString,
    arguments: Vec<OsString>,
}

impl Invocation {
    fn of(
        user: &User,
        command: Vec<OsString>,
        login: bool,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, EnterError> {
        let mut command = command.into_iter();
        let own = user.shell.as_deref();
        match (command.next(), login) {
            (Some(program), false) => {
                Ok(Self { name: program.clone(), program, arguments: command.collect() })
            }
            (None, _) => Ok(Self::shell(own.into_iter().chain(SHELLS), exists)?),
            (Some(program), true) => {
                let bourne = own.filter(|shell| BOURNE.iter().any(|name| base_name(shell) == *name));
                let mut shell = Self::shell(bourne.into_iter().chain(SHELLS), exists)?;
                shell.arguments = ["-c", r#"exec "$@""#].map(OsString::from).into();
                // The script's $0.
                shell.arguments.push(shell.name.clone());
                shell.arguments.push(program);
                shell.arguments.extend(command);
                Ok(shell)
            }
        }
    }

    /// The first of these shells that exists, as a login shell.
    fn shell<'a>(
        mut shells: impl Iterator<Item = &'a str>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, EnterError> {
        let shell = shells.find(|shell| exists(Path::new(shell))).ok_or(EnterError::NoShell)?;
        let mut name = OsString::from("-");
        name.push(base_name(shell));
        Ok(Self { program: shell.into(), name, arguments: Vec::new() })
    }
}

fn base_name(path: &str) -> &OsStr {
    Path::new(path).file_name().unwrap_or(OsStr::new(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(shell: Option<&str>) -> User {
        User {
            name: "app".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/app".into(),
            shell: shell.map(Into::into),
        }
    }

    fn invocation(shell: Option<&str>, command: &[&str], login: bool, existing: &[&str]) -> Invocation {
        let command = command.iter().map(OsString::from).collect();
        Invocation::of(&user(shell), command, login, &|path| existing.iter().any(|e| path == Path::new(e)))
            .unwrap()
    }

    #[test]
    fn without_a_command_it_is_the_users_login_shell() {
        let shell = invocation(Some("/usr/bin/fish"), &[], false, &["/usr/bin/fish", "/bin/sh"]);
        assert_eq!((shell.program, shell.name), ("/usr/bin/fish".into(), "-fish".into()));
    }

    #[test]
    fn a_missing_shell_is_replaced_by_bash_or_sh() {
        let existing = ["/bin/bash", "/bin/sh"];
        assert_eq!(invocation(Some("/bin/zsh"), &[], false, &existing).name, "-bash");
        assert_eq!(invocation(None, &[], false, &existing[1..]).name, "-sh");
        let none = Invocation::of(&user(None), vec![], false, &|_| false);
        assert_eq!(none.unwrap_err().exit_code(), 127);
    }

    #[test]
    fn a_login_command_goes_through_a_shell_that_reads_the_profile_and_keeps_every_argument() {
        let shell = invocation(Some("/bin/zsh"), &["ls", "a b"], true, &["/bin/zsh"]);
        assert_eq!((shell.program, shell.name), ("/bin/zsh".into(), "-zsh".into()));
        assert_eq!(shell.arguments, ["-c", r#"exec "$@""#, "-zsh", "ls", "a b"]);
    }

    #[test]
    fn a_shell_that_is_not_bournes_is_not_given_its_script() {
        assert_eq!(
            invocation(Some("/usr/bin/fish"), &["ls"], true, &["/usr/bin/fish", "/bin/sh"]).name,
            "-sh"
        );
    }

    #[test]
    fn of_the_pods_environment_only_terminal_language_and_kubernetes_are_kept() {
        let inherited = [
            ("TERM", "xterm"),
            ("LANG", "de_DE.UTF-8"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/pod"),
            ("HOME", "/pod"),
            ("POD_SECRET", "x"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let added = [("TERM".to_owned(), "dumb".to_owned())];
        let env = environment(&user(None), "api", inherited.into_iter(), &added);
        let value = |name| launch::last(&env, name);
        assert_eq!((value("TERM"), value("LANG")), (Some("dumb"), Some("de_DE.UTF-8")));
        assert_eq!(value("KUBERNETES_SERVICE_HOST"), Some("10.0.0.1"));
        assert_eq!((value("PATH"), value("HOME")), (Some(launch::DEFAULT_PATH), Some("/home/app")));
        assert_eq!(
            (value("USER"), value("SHELL"), value("HOSTNAME")),
            (Some("app"), Some("/bin/sh"), Some("api"))
        );
        assert_eq!(value("POD_SECRET"), None);
    }
}
