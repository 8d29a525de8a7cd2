//! `spark sftp`.

use std::ffi::OsString;

use clap_complete::engine::ArgValueCandidates;

use super::default_user;
use super::passed::{Flag, Program, Refused, Valued};
use super::place::Place;
use super::transfer::{REFUSED, TransferArgs};
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::openssh::become_program;

/// Transfer files with OpenSSH's sftp; no key of yours is needed.
///
/// Without -b it asks for commands: put, get, ls, cd; help tells them all. USER is the Spark's ssh.user, or root, when it
/// isn't said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Options
    #[command(flatten)]
    pub transfer: TransferArgs<Sftp>,
    /// [USER@]NAME[.NAMESPACE][:PATH]; with the PATH of a file, that is fetched at once
    #[arg(value_name = "[USER@]NAME[:PATH]", value_parser = destination, add = ArgValueCandidates::new(sparks))]
    pub destination: Destination,
}

/// OpenSSH's sftp.
#[derive(Clone, Debug)]
pub struct Sftp;

impl Program for Sftp {
    const FLAGS: &'static [Flag] = &[
        ("r", "Copy directories with all that is in them"),
        ("p", "Keep times and modes"),
        ("a", "Go on with transfers that were cut off"),
        ("f", "Have files on the disk before the next one begins"),
        ("C", "Compress on the way"),
        ("N", "Say more, also with -b"),
        ("A", "Let the Spark use the keys of the agent here"),
        ("4", "IPv4 addresses only"),
        ("6", "IPv6 addresses only"),
    ];
    const VALUED: &'static [Valued] = &[
        (
            "b",
            "FILE",
            "Take the commands from this file, - for standard input, and end at the first that fails",
        ),
        ("o", "NAME=VALUE", "Any other option of ssh_config"),
        ("l", "LIMIT", "Limit, in Kbit/s"),
        ("i", "FILE", "Log in with this private key, if the Spark admits it"),
        ("c", "CIPHERS", "Take one of these ciphers"),
        ("F", "FILE", "Read this ssh_config instead of yours"),
        ("S", "PROGRAM", "Connect with this program instead of ssh"),
        ("B", "BYTES", "So much at once"),
        ("R", "NUMBER", "So many requests at once"),
        ("X", "NAME=VALUE", "Option of sftp's protocol: nrequests or buffer"),
    ];
    const REFUSED: &'static [Refused] = REFUSED;
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    place: Place,
    path: Option<String>,
}

/// Becomes sftp.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let Destination { place, path } = args.destination;
    let spark = place.find(context).await?;
    let user = place.user.clone().unwrap_or_else(|| default_user(&spark));
    let mut all: Vec<OsString> = args.transfer.arguments(context)?;
    all.extend(["-o".into(), format!("User={user}").into()]);
    let path = path.map_or_else(String::new, |path| format!(":{path}"));
    all.extend(["--".into(), format!("{}{path}", place.host()).into()]);
    Err(become_program("sftp", &all))
}

fn destination(text: &str) -> Result<Destination, String> {
    let (place, path) = match text.split_once(':') {
        Some((place, path)) => (place, Some(path.to_owned())),
        None => (text, None),
    };
    Ok(Destination { place: Place::parse(place)?, path })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_are_passed_on_as_sftp_knows_them() {
        let args = Line::try_parse_from(["sftp", "-b", "-", "-afvv", "-R64", "api"]).unwrap().args;
        assert_eq!(args.transfer.verbose, 2);
        assert_eq!(args.transfer.passed.into_words().join(" ".as_ref()), "-b - -R 64 -a -f");
    }

    #[test]
    fn a_destination_is_written_as_for_sftp() {
        let of = |place: &str, path: Option<&str>| {
            Ok(Destination { place: Place::parse(place)?, path: path.map(str::to_owned) })
        };
        assert_eq!(destination("api"), of("api", None));
        assert_eq!(destination("dev@api.team-a:/srv/x:y"), of("dev@api.team-a", Some("/srv/x:y")));
        assert_eq!(destination("a@b@api.spark:"), of("a@b@api", Some("")));
        for wrong in ["", "@api", "api@", ":/srv", "-oProxyCommand=x"] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }
}
