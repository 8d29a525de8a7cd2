//! `spark scp`.

use std::ffi::OsString;

use clap_complete::engine::ArgValueCompleter;

use super::transfer::TransferArgs;
use crate::complete::endpoints;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::openssh::become_program;

/// Copy files with OpenSSH's scp; no key of yours is needed.
///
/// Remote files are [USER@]NAME:PATH, and USER is root when it isn't said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Use the protocol of old versions of scp
    #[arg(short = 'O')]
    pub legacy: bool,
    /// What sftp has too
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// PATH or [USER@]NAME:PATH; the last one is the destination
    #[arg(required = true, num_args = 2.., value_name = "PATH", add = ArgValueCompleter::new(endpoints))]
    pub paths: Vec<OsString>,
}

/// Becomes scp.
pub async fn run(context: &Context, args: Args) -> Outcome {
    if !args.paths.iter().any(|path| is_remote(&path.to_string_lossy())) {
        return Err(CliError::Usage("none of the paths is in a Spark: write NAME:PATH".into()));
    }
    let mut all: Vec<OsString> = Vec::new();
    all.extend(args.legacy.then(|| "-O".into()));
    all.extend(args.transfer.arguments(context, "root")?);
    all.push("--".into());
    all.extend(args.paths);
    Err(become_program("scp", &all))
}

/// As scp decides it: a colon with no slash before it.
fn is_remote(path: &str) -> bool {
    path.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'))
}
