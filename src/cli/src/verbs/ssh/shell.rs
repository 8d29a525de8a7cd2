//! `spark ssh`.

use std::ffi::OsString;

use clap::ArgAction;
use clap_complete::engine::ArgValueCandidates;

use super::default_user;
use super::passed::{Flag, PassedOn, Program, Refused, Valued};
use super::place::Place;
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::myself::Myself;
use crate::openssh::{WayArgs, become_program, options};

/// Log in to a Spark with OpenSSH; no key of yours is needed.
///
/// Whoever may run commands in the Spark may log in. The bytes go through the gateway where it can be reached, encrypted from
/// end to end, and else by way of the API server, which is slower; -v says which. A Spark that sleeps is woken.
///
/// The options are those of ssh, but that -n is the namespace: ssh's own -n is -o StdinNull=yes. rsync -e "spark ssh" and
/// GIT_SSH_COMMAND="spark ssh" go this way too. Ends as ssh does: with the exit code of the command, or 255 when the connection
/// failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark, and maybe its namespace: [USER@]NAME[.NAMESPACE]
    #[arg(value_name = "[USER@]NAME", value_parser = Place::parse, add = ArgValueCandidates::new(sparks))]
    pub place: Place,
    /// User to log in as [default: the Spark's ssh.user, or root]
    #[arg(short = 'l', short_alias = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// Ask for a terminal; twice even if there is none here
    #[arg(short = 't', action = ArgAction::Count)]
    pub tty: u8,
    /// Options
    #[command(flatten)]
    pub passed: PassedOn<Ssh>,
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

/// OpenSSH's ssh.
#[derive(Clone, Debug)]
pub struct Ssh;

impl Program for Ssh {
    const FLAGS: &'static [Flag] = &[
        ("T", "Ask for no terminal"),
        ("N", "Run no command: for forwarding only"),
        ("f", "Go to the background before the command runs"),
        ("s", "The command is the name of a subsystem, such as sftp"),
        ("A", "Let the Spark use the keys of the agent here"),
        ("a", "Let it use none"),
        ("X", "Let the Spark open windows here"),
        ("Y", "The same, and trust it with all that this screen shows"),
        ("x", "Let it open none"),
        ("g", "Let other machines connect to the ports of -L and -D"),
        ("C", "Compress on the way"),
        ("M", "Let later connections share this one, by the socket of -S"),
        ("G", "Print the configuration that ssh would use, and end"),
        ("y", "Write messages to the system's log"),
        ("4", "IPv4 addresses only"),
        ("6", "IPv6 addresses only"),
        ("K", "Offer Kerberos' credentials, which Sparks don't take"),
        ("k", "Offer none"),
    ];
    const VALUED: &'static [Valued] = &[
        ("o", "NAME=VALUE", "Any other option of ssh_config"),
        ("L", "FORWARD", "Reach this, seen from the Spark, at a port here: [BIND:]PORT:HOST:HOSTPORT"),
        (
            "R",
            "FORWARD",
            "Let the Spark reach this, seen from here, at a port there: [BIND:]PORT:HOST:HOSTPORT",
        ),
        ("D", "PORT", "Open a SOCKS proxy here that leaves from the Spark: [BIND:]PORT"),
        ("W", "HOST:PORT", "Connect standard input and output with this, seen from the Spark"),
        ("i", "FILE", "Log in with this private key, if the Spark admits it"),
        ("I", "LIBRARY", "The same with the keys of this PKCS#11 library"),
        ("c", "CIPHERS", "Take one of these ciphers"),
        ("m", "MACS", "Take one of these message authentication codes"),
        ("e", "CHAR", "Escape character of a terminal, or none"),
        ("E", "FILE", "Write ssh's messages to this file"),
        ("F", "FILE", "Read this ssh_config instead of yours"),
        ("S", "PATH", "Socket of the connection that is shared"),
        ("O", "COMMAND", "Tell whoever shares a connection: check, forward, cancel, exit, stop"),
    ];
    const REFUSED: &'static [Refused] = &[
        ("p", "a Spark is reached by its name and has no port to choose: leave -p out"),
        ("J", "spark finds the way itself: leave -J out; plain ssh goes with -J GATEWAY USER@NAME.NAMESPACE"),
        ("b", "spark makes the connection, from the address that the system chooses: leave -b out"),
        ("B", "spark makes the connection, from the address that the system chooses: leave -B out"),
        ("w", "a Spark carries no tunnel devices: forward ports with -L, -R or -D"),
        ("Q", "that is no question to a Spark: ask with ssh -Q"),
    ];
}

impl Args {
    /// The arguments of ssh. What the user says comes first, because with ssh the first value wins.
    fn arguments(self, is_quiet: bool, fixed: Vec<OsString>, user: String) -> Vec<OsString> {
        let mut all = self.passed.into_words();
        all.extend(is_quiet.then(|| "-q".into()));
        all.extend((0..self.tty).map(|_| "-t".into()));
        all.extend((0..self.verbose).map(|_| "-v".into()));
        all.extend(fixed);
        all.extend(["-l".into(), user.into(), self.place.host().into(), "--".into()]);
        all.extend(self.command);
        all
    }
}

/// Becomes ssh.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let spark = args.place.find(context).await?;
    // As with ssh, -l comes before what is said with the name.
    let named = args.user.as_ref().or(args.place.user.as_ref()).cloned();
    let user = named.unwrap_or_else(|| default_user(&spark));
    let way = args.way.clone().prepare(args.verbose > 0);
    let fixed = options(&Myself::here(&context.options)?, &way);
    Err(become_program("ssh", &args.arguments(context.quiet, fixed, user)))
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
        let user = args.user.clone().or(args.place.user.clone()).unwrap_or_else(|| "root".into());
        args.arguments(false, vec!["FIXED".into()], user).join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn options_of_ssh_are_passed_on_before_ours() {
        assert_eq!(
            arguments(&["-A", "-tt", "-L", "1:localhost:2", "-v", "-o", "Compression=yes", "api"]),
            "-o Compression=yes -L 1:localhost:2 -A -t -t -v FIXED -l root api --"
        );
        assert_eq!(arguments(&["-fMS/s", "-F", "none", "api"]), "-F none -S /s -f -M FIXED -l root api --");
    }

    #[test]
    fn what_follows_the_name_is_the_command() {
        assert_eq!(arguments(&["-l", "dev", "api", "ls", "-l", "-t"]), "FIXED -l dev api -- ls -l -t");
    }

    #[test]
    fn git_and_rsync_can_call_it_as_they_call_ssh() {
        let git = ["-o", "SendEnv=GIT_PROTOCOL", "-4", "root@api", "git-upload-pack '/srv/r.git'"];
        let called = "-o SendEnv=GIT_PROTOCOL -4 FIXED -l root api -- git-upload-pack '/srv/r.git'";
        assert_eq!(arguments(&git), called);
        assert_eq!(arguments(&["-G", "root@api"]), "-G FIXED -l root api --");
        let rsync = ["-l", "me", "api.team-a", "rsync", "--server", "-vne.LsfxCIvu", ".", "/srv"];
        assert_eq!(arguments(&rsync), "FIXED -l me api.team-a -- rsync --server -vne.LsfxCIvu . /srv");
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_reason() {
        for (words, reason) in
            [(["-p", "22", "api"], "no port to choose"), (["-J", "x", "api"], "leave -J out")]
        {
            let error = Line::try_parse_from([&["ssh"], &words[..]].concat()).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
