//! `sftp`: the SFTP server of a session, version 3 of the protocol with OpenSSH's extensions.
//!
//! It is a process of its own that runs as the user, reads requests from standard input and writes replies to standard
//! output. So the user's rights are what bounds it, and nothing else has to.
//!
//! None of the crates that there are: their paths are text, and those of a file system are bytes.

mod attributes;
mod copy;
mod extensions;
mod files;
mod handles;
mod longname;
mod packet;
mod people;
mod realpath;
mod rules;
mod serve;
mod session;
mod start;
mod status;
mod tree;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior};

use serve::ServeError;
use session::Session;
use start::StartError;

pub use rules::{Rules, UnknownRequest, requests};

/// The arguments of sftp-server(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SftpOptions {
    /// What may be asked for.
    pub rules: Rules,
    /// Where to begin instead of the home directory.
    pub start: Option<OsString>,
    /// The mask of what is made.
    pub umask: Option<u32>,
}

/// Why a session could not begin, or ended early.
#[derive(Debug, thiserror::Error)]
enum SftpError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The capacity that pipes are given; the largest that an unprivileged process may ask for by default (pipe(7)).
const PIPE: usize = 1 << 20;

/// Serves standard input and output until the input ends.
pub fn main(options: SftpOptions) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error, 1),
    }
}

fn run(SftpOptions { rules, start, umask }: SftpOptions) -> Result<(), SftpError> {
    // Who writes to /proc/self/mem does what no rule foresees.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Some(umask) = umask {
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    if let Some(pattern) = start {
        let directory = start::directory(&pattern)?;
        // As with OpenSSH's, it then begins where it is.
        if let Err(error) = std::env::set_current_dir(&directory) {
            let _ = writeln!(std::io::stderr(), "sftp cannot begin in {}: {error}", directory.display());
        }
    }
    serve_standard(rules).map_err(SftpError::from)
}

fn serve_standard(rules: Rules) -> Result<(), ServeError> {
    // Not the standard library's own ones: those buffer by lines, and copy once more.
    let (mut input, mut output) = (own(std::io::stdin().as_fd())?, own(std::io::stdout().as_fd())?);
    for stream in [&input, &output] {
        // Refused by sockets, which have buffers of their own.
        let _ = rustix::pipe::fcntl_setpipe_size(stream, PIPE);
    }
    serve::serve(&mut input, &mut output, Session::new(raise_file_limit(), rules))
}

fn own(stream: impl AsFd) -> std::io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Takes all the files that the user may have; `None` is without a limit.
fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}
