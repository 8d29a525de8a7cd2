//! What a session executes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytes::Bytes;

use super::environment::Environment;
use crate::launch::DEFAULT_SHELL;

/// What the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `shell`.
    Shell,
    /// `exec`.
    Command(Bytes),
    /// The subsystem `sftp`, with the arguments that only a forced command gives it.
    Sftp(Vec<OsString>),
}

impl Wish {
    /// What is done where a command is forced, and what was asked for instead, for `SSH_ORIGINAL_COMMAND`.
    pub fn forced(self, command: &str) -> (Self, Option<OsString>) {
        let original = match self {
            Self::Shell => None,
            Self::Command(command) => Some(OsString::from_vec(command.into())),
            Self::Sftp(_) => Some(INTERNAL_SFTP.into()),
        };
        // Without quotes, as with sshd.
        let mut words = command.split_ascii_whitespace();
        let forced = match words.next() {
            Some(INTERNAL_SFTP) => Self::Sftp(words.map(OsString::from).collect()),
            _ => Self::Command(command.to_owned().into()),
        };
        (forced, original)
    }
}

/// sshd's name for its own SFTP server, as a forced command too.
const INTERNAL_SFTP: &str = "internal-sftp";

/// This very program, wherever its file is since the root was swapped.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Shells that let nobody in; they say so themselves, whatever they are asked.
const CLOSED: [&str; 2] = ["nologin", "false"];

/// What is executed.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The file.
    pub program: OsString,
    /// `argv[0]`; a leading dash makes a login shell.
    pub name: OsString,
    /// The other ones.
    pub arguments: Vec<OsString>,
}

/// Why nothing can be executed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// scp's old protocol needs it on both sides.
    #[error(
        "there is no scp in this Spark; use scp without -O, which needs nothing here, or install openssh-client here"
    )]
    NoScp,
    /// NUL can't be passed on.
    #[error("the command has a NUL byte in it")]
    Nul,
}

impl Invocation {
    /// What fulfils a wish. `exists` tells whether there is such a program.
    ///
    /// # Errors
    /// [`WishError`].
    pub fn of(
        wish: &Wish,
        shell: Option<&str>,
        env: &Environment,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, WishError> {
        let shell = shell.filter(|shell| exists(Path::new(shell))).unwrap_or(DEFAULT_SHELL);
        let base = Path::new(shell).file_name().unwrap_or(OsStr::new(shell));
        let is_closed = CLOSED.iter().any(|closed| base == *closed);
        let through_shell = |name: &OsStr, arguments: Vec<OsString>| Self {
            program: shell.into(),
            name: name.into(),
            arguments,
        };
        Ok(match wish {
            Wish::Shell => {
                let mut name = OsString::from("-");
                name.push(base);
                through_shell(&name, vec![])
            }
            Wish::Sftp(_) if is_closed => through_shell(base, vec!["-c".into(), INTERNAL_SFTP.into()]),
            Wish::Sftp(arguments) => Self {
                program: OWN_PROGRAM.into(),
                name: "sparks-guest".into(),
                arguments: std::iter::once("sftp".into()).chain(arguments.iter().cloned()).collect(),
            },
            Wish::Command(command) if command.contains(&0) => return Err(WishError::Nul),
            Wish::Command(command) if is_scp(command) && !is_in_path("scp", env, exists) => {
                return Err(WishError::NoScp);
            }
            Wish::Command(command) => {
                through_shell(base, vec!["-c".into(), OsStr::from_bytes(command).into()])
            }
        })
    }
}

/// Whether it is what `scp -O` runs on the other side.
fn is_scp(command: &[u8]) -> bool {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next() == Some(b"scp") && words.any(|word| word == b"-t" || word == b"-f")
}

fn is_in_path(program: &str, env: &Environment, exists: &dyn Fn(&Path) -> bool) -> bool {
    let path = env.get("PATH").unwrap_or_default();
    std::env::split_paths(path).any(|folder| exists(&folder.join(program)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EXISTING: [&str; 4] = ["/bin/bash", "/usr/sbin/nologin", "/bin/sh", "/opt/bin/scp"];

    fn invocation(wish: &Wish, shell: Option<&str>, path: &str) -> Result<Invocation, WishError> {
        let mut env = Environment::default();
        env.set("PATH", path);
        Invocation::of(wish, shell, &env, &|path| EXISTING.iter().any(|existing| path == Path::new(existing)))
    }

    fn command(text: &'static str) -> Wish {
        Wish::Command(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_shell_is_a_login_shell_and_a_command_is_the_shells_to_read() {
        let shell = invocation(&Wish::Shell, Some("/bin/bash"), "").unwrap();
        assert_eq!(
            (shell.program, shell.name, shell.arguments),
            ("/bin/bash".into(), "-bash".into(), vec![])
        );
        let command = invocation(&command("echo 'a  b'"), Some("/bin/bash"), "").unwrap();
        assert_eq!((command.program, command.name), ("/bin/bash".into(), "bash".into()));
        assert_eq!(command.arguments, ["-c", "echo 'a  b'"]);
    }

    #[test]
    fn a_shell_that_is_missing_is_sh_and_one_that_lets_nobody_in_is_honoured() {
        for shell in [None, Some("/bin/zsh")] {
            assert_eq!(invocation(&Wish::Shell, shell, "").unwrap().name, "-sh");
        }
        for wish in [Wish::Shell, command("id"), Wish::Sftp(vec![])] {
            let closed = invocation(&wish, Some("/usr/sbin/nologin"), "").unwrap();
            assert_eq!(closed.program, "/usr/sbin/nologin", "{wish:?}");
        }
    }

    #[test]
    fn sftp_is_this_program() {
        let sftp = invocation(&Wish::Sftp(vec!["-R".into()]), Some("/bin/bash"), "").unwrap();
        assert_eq!(sftp.program, "/proc/self/exe");
        assert_eq!(sftp.arguments, ["sftp", "-R"]);
    }

    #[test]
    fn the_old_scp_needs_its_program_and_says_so() {
        for text in ["scp -t /tmp", "scp -r -p -f x", " scp  -v -t -- x"] {
            assert_eq!(invocation(&command(text), None, "/usr/bin:/bin"), Err(WishError::NoScp), "{text}");
            assert!(invocation(&command(text), None, "/usr/bin:/opt/bin").is_ok());
        }
        assert!(invocation(&command("scp a b"), None, "/bin").is_ok());
        assert_eq!(invocation(&command("a\0b"), None, "/bin"), Err(WishError::Nul));
    }

    #[test]
    fn a_forced_command_replaces_every_wish_and_may_be_sftp() {
        let (wish, original) = command("id").forced("uptime -p");
        assert_eq!((wish, original), (command("uptime -p"), Some("id".into())));
        assert_eq!(Wish::Shell.forced("uptime").1, None);
        assert_eq!(Wish::Sftp(vec![]).forced("uptime").1, Some("internal-sftp".into()));
        assert_eq!(Wish::Sftp(vec![]).forced("internal-sftp").0, Wish::Sftp(vec![]));
        assert_eq!(command("internal-sftp-x").forced("internal-sftp-x").0, command("internal-sftp-x"));
    }

    #[test]
    fn a_forced_sftp_keeps_its_arguments() {
        let wanted = Wish::Sftp(["-R", "-d", "/srv", "-P", "remove"].map(OsString::from).into());
        for wish in [Wish::Shell, command("internal-sftp"), Wish::Sftp(vec![])] {
            assert_eq!(wish.forced(" internal-sftp  -R -d /srv\t-P remove ").0, wanted);
        }
    }
}
