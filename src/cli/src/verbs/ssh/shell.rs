//! `spark ssh`.

use std::ffi::OsString;

use clap::ArgAction;
use clap_complete::engine::ArgValueCandidates;

use super::{default_user, refuse_unrecorded};
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::myself::Myself;
use crate::openssh::{WayArgs, become_program, options};
use crate::parse;

/// Log in to a Spark with OpenSSH; no key of yours is needed.
///
/// Whoever may run commands in the Spark may log in. The bytes go through the gateway where it can be reached, encrypted from
/// end to end, and else by way of the API server, which is slower; -v says which. A Spark that sleeps is woken. The options
/// are those of ssh. Ends as ssh does: with the exit code of the command, or
/// 255 when the connection failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// User to log in as [default: the Spark's ssh.user, or root]
    #[arg(short = 'l', short_alias = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// Reach this, seen from the Spark, at a port here: [BIND:]PORT:HOST:HOSTPORT
    #[arg(short = 'L', value_name = "FORWARD", num_args = 1)]
    pub local: Vec<String>,
    /// Let the Spark reach this, seen from here, at a port there: [BIND:]PORT:HOST:HOSTPORT
    #[arg(short = 'R', value_name = "FORWARD", num_args = 1)]
    pub remote: Vec<String>,
    /// Open a SOCKS proxy here that leaves from the Spark: [BIND:]PORT
    #[arg(short = 'D', value_name = "PORT", num_args = 1)]
    pub dynamic: Vec<String>,
    /// Let the Spark use the keys of the agent here
    #[arg(short = 'A')]
    pub agent: bool,
    /// Let the Spark open windows here
    #[arg(short = 'X')]
    pub x11: bool,
    /// Ask for a terminal; twice even if there is none here
    #[arg(short = 't', action = ArgAction::Count)]
    pub tty: u8,
    /// Ask for no terminal
    #[arg(short = 'T')]
    pub no_tty: bool,
    /// Run no command: for forwarding only
    #[arg(short = 'N')]
    pub no_command: bool,
    /// Any other option of ssh_config
    #[arg(short = 'o', value_name = "NAME=VALUE", num_args = 1)]
    pub option: Vec<String>,
    /// Say more about the connection; can be repeated
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
    /// Command, interpreted by the user's shell [default: a login shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl Args {
    /// The arguments of ssh. What the user says comes first, because with ssh the first value wins.
    fn arguments(&self, fixed: Vec<OsString>, user: String) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let values = [("-o", &self.option), ("-L", &self.local), ("-R", &self.remote), ("-D", &self.dynamic)];
        for (flag, values) in values {
            all.extend(values.iter().flat_map(|value| [OsString::from(flag), OsString::from(value)]));
        }
        let flags = [("-A", self.agent), ("-X", self.x11), ("-T", self.no_tty), ("-N", self.no_command)];
        all.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| OsString::from(flag)));
        all.extend((0..self.tty).map(|_| "-t".into()));
        all.extend((0..self.verbose).map(|_| "-v".into()));
        all.extend(fixed);
        all.extend(["-l".into(), user.into(), self.name.clone().into(), "--".into()]);
        all.extend(self.command.iter().cloned());
        all
    }
}

/// Becomes ssh.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let spark = context.sparks.get(&args.name).await?;
    refuse_unrecorded(&spark, &context.sparks)?;
    let user = args.user.clone().unwrap_or_else(|| default_user(&spark));
    let way = args.way.clone().prepare(args.verbose > 0);
    let arguments = args.arguments(options(&Myself::here(&context.options)?, &way), user);
    Err(become_program("ssh", &arguments))
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

    fn arguments(words: &[&str]) -> String {
        let args = Line::try_parse_from([&["ssh"], words].concat()).unwrap().args;
        let user = args.user.clone().unwrap_or_else(|| "root".into());
        let words = args.arguments(vec!["FIXED".into()], user);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_of_ssh_are_passed_on_before_ours() {
        assert_eq!(
            arguments(&["-A", "-tt", "-L", "1:localhost:2", "-o", "Compression=yes", "api"]),
            "-o Compression=yes -L 1:localhost:2 -A -t -t FIXED -l root api --"
        );
    }

    #[test]
    fn what_follows_the_name_is_the_command() {
        assert_eq!(arguments(&["-l", "dev", "api", "ls", "-l", "-t"]), "FIXED -l dev api -- ls -l -t");
    }
}
