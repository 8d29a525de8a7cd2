//! `spark scp`.

use std::ffi::OsString;

use clap::ArgAction;
use clap_complete::engine::ArgValueCompleter;

use crate::complete::endpoints;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::openssh::{Myself, WayArgs, become_program, options};

/// Copy files with OpenSSH's scp; no key of yours is needed.
///
/// Remote files are [USER@]NAME:PATH, and USER is root when it isn't said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Copy directories with all that is in them
    #[arg(short = 'r')]
    pub recursive: bool,
    /// Keep times and modes
    #[arg(short = 'p')]
    pub preserve: bool,
    /// Use the protocol of old versions of scp
    #[arg(short = 'O')]
    pub legacy: bool,
    /// Compress on the way
    #[arg(short = 'C')]
    pub compress: bool,
    /// Limit, in Kbit/s
    #[arg(short = 'l', value_name = "LIMIT")]
    pub limit: Option<u64>,
    /// Any other option of ssh_config
    #[arg(short = 'o', value_name = "NAME=VALUE", num_args = 1)]
    pub option: Vec<String>,
    /// Say more about the connection; can be repeated
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// PATH or [USER@]NAME:PATH; the last one is the destination
    #[arg(required = true, num_args = 2.., value_name = "PATH", add = ArgValueCompleter::new(endpoints))]
    pub paths: Vec<OsString>,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

/// Becomes scp.
pub async fn run(context: &Context, args: Args) -> Outcome {
    if !args.paths.iter().any(|path| is_remote(&path.to_string_lossy())) {
        return Err(CliError::Usage("none of the paths is in a Spark: write NAME:PATH".into()));
    }
    let mut all: Vec<OsString> = Vec::new();
    let flags = [
        ("-r", args.recursive),
        ("-p", args.preserve),
        ("-O", args.legacy),
        ("-C", args.compress),
        ("-q", context.quiet),
    ];
    all.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| OsString::from(flag)));
    all.extend((0..args.verbose).map(|_| OsString::from("-v")));
    all.extend(args.limit.iter().flat_map(|limit| ["-l".into(), limit.to_string().into()]));
    all.extend(args.option.iter().flat_map(|option| ["-o".into(), option.into()]));
    let way = args.way.prepare(args.verbose > 0);
    all.extend(options(&Myself::new(&context.options)?, &way));
    all.extend(["-o".into(), "User=root".into(), "--".into()]);
    all.extend(args.paths);
    Err(become_program("scp", &all))
}

/// As scp decides it: a colon with no slash before it.
fn is_remote(path: &str) -> bool {
    path.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'))
}
