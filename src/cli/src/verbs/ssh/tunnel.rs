//! `spark tunnel`.

use std::ffi::OsString;

use clap_complete::engine::ArgValueCandidates;

use super::forward::{Ports, ports};
use super::refuse_unrecorded;
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::myself::Myself;
use crate::openssh::{WayArgs, become_program, options};
use crate::parse;

/// Let a Spark reach ports here, such as a debugger's or a local model's.
///
/// The programs in the Spark connect to localhost:PORT there. It goes on until Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// [REMOTE:]PORT: PORT here is reached at REMOTE in the Spark; an empty REMOTE (:PORT) takes any free port
    #[arg(required = true, value_name = "PORTS", value_parser = ports)]
    pub ports: Vec<Ports>,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

/// Becomes ssh.
pub async fn run(context: &Context, args: Args) -> Outcome {
    refuse_unrecorded(&context.sparks.get(&args.name).await?, &context.sparks)?;
    let mut all: Vec<OsString> = ["-N", "-T", "-o", "ExitOnForwardFailure=yes"].map(Into::into).into();
    for Ports { near: remote, far: local } in args.ports {
        all.extend(["-R".into(), format!("localhost:{remote}:localhost:{local}").into()]);
        if remote != 0 {
            // Only ssh learns whether it gets it. If not, it says so and ends.
            context.say(&format!("Asking {} for localhost:{remote} -> {local} here", args.name))?;
        }
    }
    all.extend(options(&Myself::here(&context.options)?, &args.way.prepare(false)));
    all.extend(["-l".into(), "root".into(), args.name.into()]);
    Err(become_program("ssh", &all))
}
