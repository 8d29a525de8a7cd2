//! `spark exec`.

use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;
use spark_client::{Condition, Error, Exec, Process};
use sparks_api::EnvVar;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::WaitArgs;
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::parse;
use crate::terminal::{RawMode, is_interactive, size};

/// Terminals that say nothing else understand this.
const DEFAULT_TERM: &str = "xterm-256color";

/// Exit code of a program that SIGTERM or SIGHUP ended, as a shell counts it.
const TERMINATED: u8 = 143;
const HUNG_UP: u8 = 129;

/// Whether the command gets a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tty {
    /// If standard input and output are one.
    Auto,
    /// Yes.
    Yes,
    /// No: output and errors stay apart.
    No,
}

/// Run a command in a Spark, or a login shell without one.
///
/// Ends with the exit code of the command. Everything after the command's name belongs to the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// Give it a terminal
    #[arg(short, long, value_name = "WHEN", default_value = "auto", default_missing_value = "yes",
          num_args = 0..=1, require_equals = true)]
    pub tty: Tty,
    /// Pass standard input on; a terminal's always is
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// User name, or uid[:gid] [default: root]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory [default: the user's home]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Environment variable; can be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse::env)]
    pub env: Vec<EnvVar>,
    /// Run the command through the login shell, so that the profile is read
    #[arg(short, long)]
    pub login: bool,
    /// How long to wait for a Spark that is starting
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Program and arguments [default: the user's login shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Args {
    fn exec(&self, is_interactive: bool, term: Option<String>) -> Exec {
        let has_tty = self.tty == Tty::Yes || self.tty == Tty::Auto && is_interactive;
        let term = has_tty.then(|| ("TERM".to_owned(), term.unwrap_or_else(|| DEFAULT_TERM.into())));
        let env = self.env.iter().map(|var| (var.name.clone(), var.value.clone()));
        Exec {
            command: self.command.clone(),
            user: self.user.clone(),
            workdir: self.workdir.clone(),
            // What the user says comes last and wins.
            env: term.into_iter().chain(env).collect(),
            login: self.login,
            tty: has_tty.then(|| size().unwrap_or(spark_client::TtySize { rows: 24, cols: 80 })),
            // A shell without input would end at once.
            stdin: self.stdin || has_tty || self.command.is_empty(),
        }
    }
}

/// Runs it.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let exec = args.exec(is_interactive(), std::env::var("TERM").ok().filter(|term| !term.is_empty()));
    let process = start(context, &args, &exec).await?;
    let code = if exec.tty.is_some() { with_terminal(process).await? } else { with_pipes(process).await? };
    // Where it doesn't fit it is a failure all the same.
    Ok(u8::try_from(code).unwrap_or(crate::errors::FAILED))
}

/// Starts the command; a Spark that sleeps is woken, one that is on its way up is waited for.
async fn start(context: &Context, args: &Args, exec: &Exec) -> Result<Process, CliError> {
    match context.sparks.exec(&args.name, exec).await {
        Err(Error::Sleeping(_)) => {
            context.sparks.wake(&args.name).await?;
            context.wait_awake(&args.name, Condition::Running, &args.wait).await?;
        }
        Err(Error::NotRunning { .. }) if !args.wait.no_wait => {
            context.wait(&args.name, Condition::Running, &args.wait).await?;
        }
        result => return Ok(result?),
    }
    Ok(context.sparks.exec(&args.name, exec).await?)
}

async fn with_pipes(process: Process) -> Result<i32, CliError> {
    Ok(process.run(tokio::io::stdin(), tokio::io::stdout(), tokio::io::stderr()).await?)
}

async fn with_terminal(mut process: Process) -> Result<i32, CliError> {
    let resizer = process.take_resizer();
    // The terminal may be of one end only (-t with a pipe): then there is nothing to switch.
    let raw = RawMode::enter().ok();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = process.run(tokio::io::stdin(), tokio::io::stdout(), tokio::io::sink()) => result,
        result = follow_size(resizer) => Err(Error::Io(result)),
        _ = hangup.recv() => Ok(HUNG_UP.into()),
        _ = terminate.recv() => Ok(TERMINATED.into()),
    };
    drop(raw);
    Ok(result?)
}

/// Passes the size of the local terminal on whenever it changes; ends only with an error.
async fn follow_size(resizer: Option<spark_client::Resizer>) -> std::io::Error {
    let (Some(mut resizer), Ok(mut changed)) = (resizer, signal(SignalKind::window_change())) else {
        return std::future::pending().await;
    };
    loop {
        // At the beginning too: the window may have changed while the command was started.
        if let Some(size) = size() {
            resizer.send(size).await;
        }
        if changed.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Args {
        Line::try_parse_from([&["exec"], words].concat()).unwrap().args
    }

    #[test]
    fn what_follows_the_command_belongs_to_the_command() {
        for words in
            [&["x", "-u", "me", "--", "ls", "-l", "-u", "--"][..], &["x", "-u", "me", "ls", "-l", "-u", "--"]]
        {
            let args = parsed(words);
            assert_eq!((args.user.as_deref(), args.command.join(" ").as_str()), (Some("me"), "ls -l -u --"));
        }
    }

    #[test]
    fn the_flags_of_docker_and_kubectl_work_in_either_order() {
        for flags in ["-it", "-ti"] {
            let args = parsed(&["x", flags, "--", "sh"]);
            assert_eq!((args.tty, args.stdin, args.command.len()), (Tty::Yes, true, 1), "{flags}");
        }
        assert_eq!(parsed(&["x", "--tty=no"]).tty, Tty::No);
    }

    #[test]
    fn a_terminal_is_given_if_there_is_one_and_nobody_says_otherwise() {
        let tty = |words: &[&str], is_interactive| parsed(words).exec(is_interactive, None).tty.is_some();
        assert!(tty(&["x", "ls"], true) && !tty(&["x", "ls"], false));
        assert!(tty(&["x", "-t", "ls"], false) && !tty(&["x", "--tty=no", "ls"], true));
    }

    #[test]
    fn the_name_of_the_terminal_is_passed_on_and_can_be_overruled() {
        let env = |words: &[&str]| parsed(words).exec(true, Some("foot".into())).env;
        assert_eq!(env(&["x"]), [("TERM".into(), "foot".into())]);
        assert_eq!(env(&["x", "-e", "TERM=dumb"]).last().unwrap().1, "dumb");
        assert!(parsed(&["x", "ls"]).exec(false, Some("foot".into())).env.is_empty());
    }

    #[test]
    fn input_is_taken_only_on_request_or_by_a_shell() {
        assert!(!parsed(&["x", "ls"]).exec(false, None).stdin);
        assert!(parsed(&["x", "-i", "cat"]).exec(false, None).stdin);
        assert!(parsed(&["x"]).exec(false, None).stdin);
    }
}
