//! `spark completion`.

use clap::ValueEnum;

use crate::errors::Outcome;
use crate::{complete, output};

/// A shell that can be completed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
}

/// Print the script that completes spark in a shell, names of Sparks included.
///
/// bash: echo 'source <(spark completion bash)' >> ~/.bashrc
/// zsh:  echo 'source <(spark completion zsh)' >> ~/.zshrc
/// fish: spark completion fish > ~/.config/fish/completions/spark.fish
///
/// For `kubectl spark`, link the program to the name kubectl_complete-spark in a directory of the PATH.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Outcome {
    let shell = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    output::line(complete::script(&shell)?.trim_end())?;
    Ok(0)
}
