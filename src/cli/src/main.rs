//! `spark`: whole computers on your own Kubernetes, forkable as a git branch is. Also `kubectl spark`.

mod archive;
mod cli;
mod complete;
mod context;
mod errors;
mod gateway;
mod human;
mod identity;
mod myself;
mod openssh;
mod output;
mod parse;
mod progress;
mod table;
mod terminal;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use cli::Cli;
use errors::INTERRUPTED;

fn main() -> ExitCode {
    if let Some(code) = complete::answer() {
        return code;
    }
    terminal::restore_on_panic();
    let arguments = command().get_matches();
    let cli = Cli::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return errors::report(&error.into()),
    };
    let result = runtime.block_on(async {
        // Verbs that must leave something in order look at Ctrl-C themselves.
        let cleans_up = cli.verb.cleans_up();
        tokio::select! {
            result = verbs::run(cli) => result,
            Ok(()) = tokio::signal::ctrl_c(), if !cleans_up => Ok(INTERRUPTED),
        }
    });
    // A read of standard input that still waits must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => errors::report(&error),
    }
}

/// The command line, which calls itself what it was called as.
fn command() -> clap::Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let command = Cli::command();
    if name == "kubectl-spark" { command.bin_name("kubectl spark") } else { command }
}
