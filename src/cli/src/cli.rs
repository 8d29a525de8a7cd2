//! The command line as a whole; each verb's own arguments are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use crate::complete::{contexts, namespaces};
use crate::parse;
use crate::verbs::{
    checkpoint, completion, cp, exec, fork, logs, ls, new, pool, restore, rm, sessions, show, ssh, start,
    stop, top, undelete, url, verify, version,
};

const AFTER_HELP: &str = "\
Exit codes:
  0    it worked
  1    it did not; one sentence on standard error says why and what to do
  2    the command line is wrong
  3    something that was named was not found
  4    it took longer than --timeout
  5    the name is taken, or somebody else changed the object at the same time
  130  interrupted by Ctrl-C
  exec and ssh end with the exit code of the command that they ran.

Environment:
  KUBECONFIG  the cluster to use      NO_COLOR  no colours

Examples:
  spark new api --image debian:trixie --volume data:/data:10Gi -- python3 -m http.server 8080
  spark fork api api-try-1            spark fork api --count 20
  spark exec api                      spark cp ./notes.txt api:/root/
  spark ssh api                       spark forward api 8080
  spark checkpoint api before-upgrade spark restore api before-upgrade
  spark rm api                        spark undelete api";

/// Whole computers on your own Kubernetes, forkable as a git branch is.
#[derive(Debug, Parser)]
#[command(name = "spark", version, after_help = AFTER_HELP, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Namespace [default: the context's]
    #[arg(short, long, global = true, overrides_with = "namespace", value_name = "NS", add = ArgValueCandidates::new(namespaces))]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "CONTEXT", add = ArgValueCandidates::new(contexts))]
    pub context: Option<String>,
    /// Path of the kubeconfig [default: KUBECONFIG, ~/.kube/config or the pod's service account]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Print names only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// How to print an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table with more columns.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// kind/name, one a line.
    Name,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Whether and how long to wait.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Wait until it is done [the default]
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Don't wait
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse::duration)]
    pub timeout: Duration,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a Spark from an OCI image
    #[command(alias = "create")]
    New(Box<new::Args>),
    /// Fork a Spark or a Checkpoint
    Fork(fork::Args),
    /// Take, list and remove Checkpoints
    Checkpoint(checkpoint::Args),
    /// Put a Spark back to a Checkpoint, in place
    Restore(restore::Args),
    /// List Sparks
    #[command(aliases = ["list", "get"])]
    Ls(ls::Args),
    /// Show all about one Spark
    #[command(alias = "describe")]
    Show(show::Args),
    /// Run a command in a Spark, or a login shell
    #[command(alias = "shell")]
    Exec(exec::Args),
    /// Print the logs of a Spark's service
    Logs(logs::Args),
    /// Copy files into a Spark or out of it
    Cp(cp::Args),
    /// Log in to a Spark with OpenSSH
    Ssh(Box<ssh::shell::Args>),
    /// Let ssh, scp, rsync and editors reach Sparks by name
    SshConfig(ssh::config::Args),
    /// Copy files with OpenSSH's scp
    Scp(ssh::scp::Args),
    /// Transfer files with OpenSSH's sftp
    Sftp(ssh::sftp::Args),
    /// Reach ports of a Spark at ports here
    Forward(ssh::forward::Args),
    /// Let a Spark reach ports here
    Tunnel(ssh::tunnel::Args),
    /// What OpenSSH runs to reach a Spark
    #[command(hide = true)]
    SshProxy(ssh::proxy::Args),
    /// What OpenSSH runs to learn a Spark's host key
    #[command(hide = true)]
    SshKnownHosts(ssh::known_hosts::Args),
    /// Print the address of a Spark's service, or a signed link to it
    Url(url::Args),
    /// Look back at recorded sessions
    Sessions(sessions::Args),
    /// Stop Sparks; they keep their disks
    Stop(stop::Args),
    /// Start stopped Sparks
    Start(start::Args),
    /// Delete Sparks into the trash
    #[command(alias = "delete")]
    Rm(rm::Args),
    /// Take a deleted Spark out of the trash
    Undelete(undelete::Args),
    /// Keep pods warm, so that forks take milliseconds
    Pool(pool::Args),
    /// Show what Sparks use
    Top(top::Args),
    /// Print the script that completes spark in a shell
    Completion(completion::Args),
    /// Prove an installation by using it
    Verify(verify::Args),
    /// Print the versions of spark and of the cluster
    Version(version::Args),
}

impl Verb {
    /// Whether the verb handles Ctrl-C itself.
    pub fn cleans_up(&self) -> bool {
        matches!(self, Self::Verify(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_says_what_it_does() {
        for verb in Cli::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }

    #[test]
    fn global_options_are_understood_after_the_verb() {
        let cli = Cli::try_parse_from(["spark", "ls", "-n", "a", "-q"]).expect("parses");
        assert_eq!((cli.global.namespace.as_deref(), cli.global.quiet), (Some("a"), true));
        let cli = Cli::try_parse_from(["spark", "ls", "-n", "a", "-n", "b"]).expect("the last one counts");
        assert_eq!(cli.global.namespace.as_deref(), Some("b"));
    }
}
