//! `~/.ssh/rc`: what a user has done before every session, as with sshd.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::invocation::{Invocation, OWN_PROGRAM};

/// The name of the sub-command that runs it, and then becomes the session's program.
const SUBCOMMAND: &str = "rc";

fn file(home: &Path) -> PathBuf {
    home.join(".ssh/rc")
}

/// Whether a user has one.
pub fn exists(home: &str) -> bool {
    file(Path::new(home)).is_file()
}

/// What runs it first.
pub fn before(invocation: Invocation) -> Invocation {
    let Invocation { program, name, arguments } = invocation;
    let mut all = vec![SUBCOMMAND.into(), name, program];
    all.extend(arguments);
    Invocation { program: OWN_PROGRAM.into(), name: "sparks-guest".into(), arguments: all }
}

/// Runs it, and becomes the program: `NAME PROGRAM [ARGUMENT]...`.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(name), Some(program)) = (arguments.next(), arguments.next()) else { return ExitCode::FAILURE };
    if let Some(home) = std::env::home_dir() {
        // It has complained on standard error, where the user sees it.
        let _ = Command::new("/bin/sh").arg(file(&home)).stdin(Stdio::null()).status();
    }
    let error = Command::new(&program).arg0(name).args(arguments).exec();
    let _ = writeln!(std::io::stderr(), "{}: {error}", program.display());
    ExitCode::FAILURE
}
