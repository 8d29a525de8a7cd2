//! `sftp`: the SFTP server of a session, version 3 of the protocol with OpenSSH's extensions.
//!
//! It is a process of its own that runs as the user, reads requests from standard input and writes replies to standard
//! output. So the user's rights are what bounds it, and nothing else has to.
//!
//! Not the crate russh-sftp: its paths are text, and those of a file system are bytes.

mod attributes;
mod copy;
mod extensions;
mod files;
mod handles;
mod longname;
mod packet;
mod people;
mod realpath;
mod serve;
mod session;
mod status;
mod tree;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit};

use serve::ServeError;
use session::Session;

/// The capacity that pipes are given; the largest that an unprivileged process may ask for by default (pipe(7)).
const PIPE: usize = 1 << 20;

/// Serves standard input and output until the input ends.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error, 1),
    }
}

fn run() -> Result<(), ServeError> {
    // Not the standard library's own ones: those buffer by lines, and copy once more.
    let (mut input, mut output) = (own(std::io::stdin().as_fd())?, own(std::io::stdout().as_fd())?);
    for stream in [&input, &output] {
        // Refused by sockets, which have buffers of their own.
        let _ = rustix::pipe::fcntl_setpipe_size(stream, PIPE);
    }
    serve::serve(&mut input, &mut output, Session::new(raise_file_limit()))
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
