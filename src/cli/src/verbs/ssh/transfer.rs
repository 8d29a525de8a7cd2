//! What scp and sftp have in common.

use std::ffi::OsString;

use clap::ArgAction;

use super::passed::{PassedOn, Program, Refused};
use crate::context::Context;
use crate::errors::CliError;
use crate::myself::Myself;
use crate::openssh::{WayArgs, options};

/// Options of both that make no sense.
pub const REFUSED: &[Refused] = &[
    ("P", "a Spark is reached by its name and has no port to choose: leave -P out"),
    ("J", "spark finds the way itself: leave -J out; plain scp and sftp go with -J GATEWAY"),
];

/// Options of both.
#[derive(Debug, clap::Args)]
pub struct TransferArgs<P: Program> {
    /// The program's own
    #[command(flatten)]
    pub passed: PassedOn<P>,
    /// Say more about the connection; can be repeated
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

impl<P: Program> TransferArgs<P> {
    /// The arguments of either program. What the user says comes first, because with OpenSSH the first value wins.
    pub fn arguments(self, context: &Context) -> Result<Vec<OsString>, CliError> {
        let mut all = self.passed.into_words();
        all.extend(context.quiet.then(|| "-q".into()));
        all.extend((0..self.verbose).map(|_| OsString::from("-v")));
        let way = self.way.prepare(self.verbose > 0);
        all.extend(options(&Myself::here(&context.options)?, &way));
        Ok(all)
    }
}
