//! `spark scp`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap_complete::engine::ArgValueCompleter;

use super::default_user;
use super::passed::{Flag, Program, Refused, Valued};
use super::place::Place;
use super::transfer::{REFUSED, TransferArgs};
use crate::complete::endpoints;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::openssh::become_program;

/// Begins the other way to write a remote file: `scp://[USER@]NAME/PATH`.
const SCHEME: &str = "scp://";

/// Copy files with OpenSSH's scp; no key of yours is needed.
///
/// Remote files are [USER@]NAME[.NAMESPACE]:PATH, and USER is the Spark's ssh.user, or root, when it isn't said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Options
    #[command(flatten)]
    pub transfer: TransferArgs<Scp>,
    /// PATH or [USER@]NAME:PATH; the last one is the destination
    #[arg(required = true, num_args = 2.., value_name = "PATH", add = ArgValueCompleter::new(endpoints))]
    pub paths: Vec<OsString>,
}

/// OpenSSH's scp.
#[derive(Clone, Debug)]
pub struct Scp;

impl Program for Scp {
    const FLAGS: &'static [Flag] = &[
        ("r", "Copy directories with all that is in them"),
        ("p", "Keep times and modes"),
        ("C", "Compress on the way"),
        ("3", "Copy from Spark to Spark by way of this machine [newer scp does so anyway]"),
        ("B", "Ask for nothing"),
        ("O", "Use the protocol of old versions of scp"),
        ("s", "Use sftp's protocol [newer scp does so anyway]"),
        ("T", "Take whatever names the Spark sends"),
        ("4", "IPv4 addresses only"),
        ("6", "IPv6 addresses only"),
    ];
    const VALUED: &'static [Valued] = &[
        ("o", "NAME=VALUE", "Any other option of ssh_config"),
        ("l", "LIMIT", "Limit, in Kbit/s"),
        ("i", "FILE", "Log in with this private key, if the Spark admits it"),
        ("c", "CIPHERS", "Take one of these ciphers"),
        ("F", "FILE", "Read this ssh_config instead of yours"),
        ("S", "PROGRAM", "Connect with this program instead of ssh"),
        ("X", "NAME=VALUE", "Option of sftp's protocol: nrequests or buffer"),
    ];
    const REFUSED: &'static [Refused] = REFUSED;
}

/// Becomes scp.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let paths = with_users(context, args.paths).await?;
    let mut all = args.transfer.arguments(context)?;
    all.push("--".into());
    all.extend(paths);
    Err(become_program("scp", &all))
}

/// Looks at every Spark once, and names its user where none is.
async fn with_users(context: &Context, paths: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let places = paths.iter().map(|path| place(path)).collect::<Result<Vec<_>, _>>()?;
    let mut users = BTreeMap::new();
    for place in places.iter().flatten() {
        if let Entry::Vacant(new) = users.entry(place.host()) {
            new.insert(default_user(&place.find(context).await?));
        }
    }
    if users.is_empty() {
        return Err(CliError::Usage("none of the paths is in a Spark: write NAME:PATH".into()));
    }
    let user = |place: Option<Place>| place.filter(|place| place.user.is_none()).map(|place| place.host());
    let named = paths.into_iter().zip(places).map(|(path, place)| match user(place) {
        Some(host) => with_user(&path, &users[&host]),
        None => path,
    });
    Ok(named.collect())
}

/// Where a file is; nowhere else if it is here. As scp decides it: a colon with no slash before it.
fn place(path: &OsStr) -> Result<Option<Place>, CliError> {
    let text = path.to_string_lossy();
    let place = match text.strip_prefix(SCHEME) {
        Some(rest) => Some(rest.split_once('/').map_or(rest, |(place, _)| place)),
        None => text
            .split_once(':')
            .map(|(place, _)| place)
            .filter(|place| !place.is_empty() && !place.contains('/')),
    };
    place.map(Place::parse).transpose().map_err(|why| CliError::Usage(format!("{text}: {why}")))
}

fn with_user(path: &OsStr, user: &str) -> OsString {
    let (scheme, rest) = path.as_bytes().split_at(if path.as_bytes().starts_with(SCHEME.as_bytes()) {
        SCHEME.len()
    } else {
        0
    });
    OsString::from_vec([scheme, user.as_bytes(), b"@", rest].concat())
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
    fn options_are_passed_on_as_scp_knows_them() {
        let words = ["scp", "-rp3", "-l", "800", "-oCompression=yes", "-i", "key", "a", "b:"];
        let args = Line::try_parse_from(words).unwrap().args;
        let passed = args.transfer.passed.into_words().join(" ".as_ref());
        assert_eq!(passed, "-o Compression=yes -l 800 -i key -r -p -3");
    }

    #[test]
    fn a_colon_with_no_slash_before_it_makes_a_path_remote() {
        let host = |path: &str| place(path.as_ref()).unwrap().map(|place| place.host());
        for (path, wanted) in [
            ("api:x", "api"),
            ("api:", "api"),
            ("me@api.team-a:/x:y", "api.team-a"),
            ("scp://me@api/x", "api"),
            ("scp://api", "api"),
        ] {
            assert_eq!(host(path).as_deref(), Some(wanted), "{path}");
        }
        for path in ["x", "./a:b", ":a", "/a:b", "x/scp://a"] {
            assert_eq!(host(path), None, "{path}");
        }
        for path in ["[::1]:x", "A:x", "@a:x", "scp://a:22/x"] {
            assert!(place(path.as_ref()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_user_comes_before_the_name_and_the_path_keeps_its_bytes() {
        let path = OsStr::from_bytes(b"api:\xff");
        assert_eq!(with_user(path, "me").as_bytes(), b"me@api:\xff");
        assert_eq!(with_user("scp://api/x".as_ref(), "me"), "scp://me@api/x");
    }
}
