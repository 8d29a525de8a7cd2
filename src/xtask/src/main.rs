//! Chores of the workspace: `cargo run -p xtask -- generate | walls | image`.

mod generate;
mod image;
mod walls;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "xtask", about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes crds/, charts/sparks-crds/templates, manifests/ and docs/reference/api.md
    Generate(generate::Arguments),
    /// Checks which room imports what, where `unsafe` is, how long files are, and that all are ours
    Walls,
    /// Packs files into an OCI image archive, the same bytes for the same files
    Image(Box<image::Arguments>),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace: what goes wrong here is in the files that it reads.
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Generate(arguments) => generate::run(&workspace_root()?, &arguments),
        Command::Walls => walls::run(&workspace_root()?),
        Command::Image(arguments) => image::run(&arguments),
    }
}

/// The directory of the workspace that this program was built from.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("run it as `cargo run -p xtask -- …`")?;
    Path::new(&manifest).ancestors().nth(2).map(Path::to_owned).context("src/xtask has been moved")
}
