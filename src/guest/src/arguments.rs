//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::archive::ExtractOptions;
use crate::enter::{EnterOptions, TtySize};
use crate::ssh::Entrance;
use crate::ssh::sftp::{self, SftpOptions, UnknownRequest};

/// Exit code of a wrong command line.
pub const USAGE_EXIT: u8 = 2;

/// What `--help` prints.
pub const HELP: &str = "\
sparks-guest: the inside of a Spark's pod

Usage:
  sparks-guest
      Be PID 1 of the pod. SPARKS_CONTROL_SOCKET names another abstract socket than the default (for tests).
  sparks-guest enter [--tty-size ROWSxCOLS] [--user USER] [--workdir DIR] [--env NAME=VALUE]... [--login]
                     [--] [COMMAND [ARGUMENT]...]
      Run a command as a user of the Spark with a login environment; the user's login shell without a command.
      --login runs the command through the login shell, so that the profile is read.
  sparks-guest tar-out [--] PATH...
      Write files and directories to standard output as a tar stream.
  sparks-guest tar-in [--into DIR] [--rename NAME] [--no-same-owner]
      Extract a tar stream from standard input; never outside of DIR (default: the current directory).
  sparks-guest ssh --connection FD | --stdio | --admit
      Serve one SSH connection: on a socket, with what PID 1 says on standard input; or on standard input and output,
      for whoever may run programs in the pod. --admit lets whoever has the public key on standard input log in at the
      SSH port as anybody within the next minute.
  sparks-guest sftp [-R] [-P REQUESTS] [-p REQUESTS] [-d DIR] [-u UMASK] [-e] [-f FACILITY] [-l LEVEL]
      Serve files on standard input and output by SFTP. The options are those of sftp-server(8); nothing is logged.
  sparks-guest --help | --version
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// No arguments.
    Pid1,
    /// `enter`.
    Enter(EnterOptions),
    /// `tar-out`.
    TarOut {
        /// What to archive.
        paths: Vec<PathBuf>,
    },
    /// `tar-in`.
    TarIn(ExtractOptions),
    /// `ssh`.
    Ssh(Entrance),
    /// `ssh --admit`.
    Admit,
    /// `sftp`.
    Sftp(SftpOptions),
    /// `rc`, which only a session runs.
    Rc {
        /// `argv[0]`, the program and its arguments.
        command: Vec<OsString>,
    },
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// Why a command line was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// Unknown option, missing value.
    #[error("{0}; see `sparks-guest --help`")]
    Parse(#[from] lexopt::Error),
    /// Unknown sub-command.
    #[error("there is no sub-command `{0}`; see `sparks-guest --help`")]
    Unknown(String),
    /// A size that is none.
    #[error("`{0}` is no terminal size; write ROWSxCOLS, such as 24x80")]
    TtySize(String),
    /// An environment entry without a name.
    #[error("`{0}` is no environment variable; write NAME=VALUE")]
    Env(String),
    /// `tar-out` of nothing.
    #[error("tar-out needs at least one path")]
    NoPath,
    /// `ssh` on nothing.
    #[error("ssh needs --connection FD, a number above 2, --stdio or --admit")]
    Entrance,
    /// `sftp -P` or `-p` of no request.
    #[error(transparent)]
    Request(#[from] UnknownRequest),
    /// A second list would widen the first.
    #[error("sftp takes -{0} only once")]
    Twice(char),
    /// A mask that is none.
    #[error("`{0}` is no umask; write up to three octal digits, such as 027")]
    Umask(String),
    /// A new name that is more than a name.
    #[error("`{0}` is no file name to rename to; give one name without a slash")]
    Rename(String),
}

/// Parses the command line.
///
/// # Errors
/// [`ArgumentError`], with a sentence for the terminal.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, ArgumentError> {
    match parser.next()? {
        None => Ok(Command::Pid1),
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(Short('V') | Long("version")) => Ok(Command::Version),
        Some(Value(name)) if name == "enter" => enter(parser),
        Some(Value(name)) if name == "tar-out" => tar_out(parser),
        Some(Value(name)) if name == "tar-in" => tar_in(parser),
        Some(Value(name)) if name == "ssh" => ssh(parser),
        Some(Value(name)) if name == "sftp" => Ok(Command::Sftp(sftp_options(parser)?)),
        Some(Value(name)) if name == "rc" => Ok(Command::Rc { command: parser.raw_args()?.collect() }),
        Some(Value(name)) => Err(ArgumentError::Unknown(name.to_string_lossy().into_owned())),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn enter(mut parser: lexopt::Parser) -> Result<Command, ArgumentError> {
    let mut options = EnterOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("tty-size") => options.tty_size = Some(tty_size(&parser.value()?.string()?)?),
            Long("user") => options.user = Some(parser.value()?.string()?),
            Long("workdir") => options.workdir = Some(parser.value()?.into()),
            Long("env") => options.env.push(env(parser.value()?)?),
            Long("login") => options.login = true,
            // Whatever follows the program belongs to it, options included.
            Value(program) => {
                options.command.push(program);
                options.command.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Enter(options))
}

fn tar_out(mut parser: lexopt::Parser) -> Result<Command, ArgumentError> {
    let mut paths = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Value(path) => paths.push(PathBuf::from(path)),
            other => return Err(other.unexpected().into()),
        }
    }
    if paths.is_empty() { Err(ArgumentError::NoPath) } else { Ok(Command::TarOut { paths }) }
}

fn tar_in(mut parser: lexopt::Parser) -> Result<Command, ArgumentError> {
    let mut options = ExtractOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("into") => options.into = parser.value()?.into(),
            Long("rename") => options.rename = Some(file_name(parser.value()?)?),
            Long("no-same-owner") => options.same_owner = false,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::TarIn(options))
}

fn ssh(mut parser: lexopt::Parser) -> Result<Command, ArgumentError> {
    let command = match parser.next()? {
        Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Long("admit")) => Command::Admit,
        Some(Long("stdio")) => Command::Ssh(Entrance::Stdio),
        Some(Long("connection")) => Command::Ssh(Entrance::Connection(
            parser.value()?.string()?.parse().ok().filter(|fd| *fd > 2).ok_or(ArgumentError::Entrance)?,
        )),
        Some(other) => return Err(other.unexpected().into()),
        None => return Err(ArgumentError::Entrance),
    };
    match parser.next()? {
        None => Ok(command),
        Some(more) => Err(more.unexpected().into()),
    }
}

/// Those of sftp-server(8), because the forced command `internal-sftp` may have them. Any other one is refused: it may
/// have been meant to forbid something.
fn sftp_options(mut parser: lexopt::Parser) -> Result<SftpOptions, ArgumentError> {
    let mut options = SftpOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('R') => options.rules.read_only = true,
            Short('P') => requests('P', &mut options.rules.denied, &mut parser)?,
            Short('p') => requests('p', &mut options.rules.allowed, &mut parser)?,
            Short('d') => options.start = Some(parser.value()?),
            Short('u') => options.umask = Some(umask(&parser.value()?.string()?)?),
            Short('e') => {}
            Short('f' | 'l') => drop(parser.value()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn requests(
    option: char,
    list: &mut Option<Vec<&'static str>>,
    parser: &mut lexopt::Parser,
) -> Result<(), ArgumentError> {
    let requests = sftp::requests(&parser.value()?.string()?)?;
    match list.replace(requests) {
        None => Ok(()),
        Some(_) => Err(ArgumentError::Twice(option)),
    }
}

fn umask(text: &str) -> Result<u32, ArgumentError> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| ArgumentError::Umask(text.into()))
}

fn tty_size(text: &str) -> Result<TtySize, ArgumentError> {
    text.split_once('x')
        .and_then(|(rows, cols)| Some(TtySize { rows: rows.parse().ok()?, cols: cols.parse().ok()? }))
        .ok_or_else(|| ArgumentError::TtySize(text.into()))
}

fn env(entry: OsString) -> Result<(String, String), ArgumentError> {
    let text = entry.string()?;
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(ArgumentError::Env(text)),
    }
}

fn file_name(name: OsString) -> Result<OsString, ArgumentError> {
    let mut components = std::path::Path::new(&name).components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(ArgumentError::Rename(name.to_string_lossy().into_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, ArgumentError> {
        parse(lexopt::Parser::from_args(arguments))
    }

    #[test]
    fn enter_leaves_everything_after_the_program_to_the_program() {
        let Command::Enter(options) =
            parsed(&["enter", "--user", "u", "--env", "A=b=c", "--", "ls", "-l", "--user", "--", "x"])
                .unwrap()
        else {
            panic!("not enter")
        };
        assert_eq!(options.command, ["ls", "-l", "--user", "--", "x"]);
        assert_eq!(options.user.as_deref(), Some("u"));
        assert_eq!(options.env, [("A".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn a_program_needs_no_double_dash() {
        let Command::Enter(options) = parsed(&["enter", "--login", "ls", "-l"]).unwrap() else {
            panic!("not enter")
        };
        assert_eq!(options.command, ["ls", "-l"]);
        assert!(options.login);
    }

    #[test]
    fn a_terminal_size_is_rows_by_columns() {
        assert_eq!(tty_size("24x80").unwrap(), TtySize { rows: 24, cols: 80 });
        for wrong in ["24", "x", "24x", "-1x80", "24x80x2", "70000x1"] {
            assert!(tty_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_name_is_one_file_name() {
        assert!(file_name("a".into()).is_ok());
        for wrong in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(file_name(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ssh_has_exactly_one_entrance() {
        assert_eq!(parsed(&["ssh", "--stdio"]).unwrap(), Command::Ssh(Entrance::Stdio));
        assert_eq!(parsed(&["ssh", "--connection", "7"]).unwrap(), Command::Ssh(Entrance::Connection(7)));
        assert_eq!(parsed(&["ssh", "--admit"]).unwrap(), Command::Admit);
        for wrong in [
            &["ssh"][..],
            &["ssh", "--connection", "2"],
            &["ssh", "--stdio", "--connection", "7"],
            &["ssh", "--admit", "--stdio"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sftp_has_the_options_of_sftp_server() {
        assert_eq!(parsed(&["sftp"]).unwrap(), Command::Sftp(SftpOptions::default()));
        let line = [
            "sftp",
            "-eR",
            "-P",
            "remove,rmdir",
            "-p",
            "open",
            "-d",
            "/a b",
            "-u027",
            "-f",
            "AUTH",
            "-l",
            "INFO",
        ];
        let Command::Sftp(SftpOptions { rules, start, umask }) = parsed(&line).unwrap() else {
            panic!("not sftp")
        };
        assert!(rules.read_only);
        assert_eq!((rules.denied, rules.allowed), (Some(vec!["remove", "rmdir"]), Some(vec!["open"])));
        assert_eq!((start, umask), (Some("/a b".into()), Some(0o27)));
        for wrong in [
            &["-x"][..],
            &["-h"],
            &["-Q", "requests"],
            &["-c", "x"],
            &["--read-only"],
            &["x"],
            &["-P", "delete"],
            &["-P", "remove", "-P", "rmdir"],
            &["-p"],
            &["-u", "1000"],
            &["-u", "08"],
            &["-u", "-1"],
        ] {
            assert!(parsed(&[&["sftp"], wrong].concat()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for wrong in
            [&["tar-out"][..], &["frobnicate"], &["enter", "--env", "=x"], &["tar-in", "x"], &["--x"]]
        {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parsed(&[]).unwrap(), Command::Pid1);
    }
}
