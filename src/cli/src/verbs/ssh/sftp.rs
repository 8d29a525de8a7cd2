//! `spark sftp`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;

use super::transfer::TransferArgs;
use super::{default_user, refuse_unrecorded};
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::openssh::{self, become_program};

/// Transfer files with OpenSSH's sftp; no key of yours is needed.
///
/// Without -b it asks for commands: put, get, ls, cd; help tells them all. USER is the Spark's ssh.user, or root, when it
/// isn't said.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take the commands from this file, - for standard input, and end at the first that fails
    #[arg(short = 'b', value_name = "FILE")]
    pub batch: Option<PathBuf>,
    /// What scp has too
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// [USER@]NAME[:PATH]; with the PATH of a file, that is fetched at once
    #[arg(value_name = "[USER@]NAME[:PATH]", value_parser = destination, add = ArgValueCandidates::new(sparks))]
    pub destination: Destination,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    user: Option<String>,
    name: String,
    namespace: Option<String>,
    path: Option<String>,
}

/// Becomes sftp.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let Destination { user, name, namespace, path } = args.destination;
    let sparks = context.in_namespace(namespace.clone()).sparks;
    let spark = sparks.get(&name).await?;
    refuse_unrecorded(&spark, &sparks)?;
    let user = user.unwrap_or_else(|| default_user(&spark));
    let mut all: Vec<OsString> = args.batch.iter().flat_map(|file| ["-b".into(), file.into()]).collect();
    all.extend(args.transfer.arguments(context, &user)?);
    let host = namespace.map_or(name.clone(), |namespace| format!("{name}.{namespace}"));
    let path = path.map_or_else(String::new, |path| format!(":{path}"));
    all.extend(["--".into(), format!("{host}{path}").into()]);
    Err(become_program("sftp", &all))
}

fn destination(text: &str) -> Result<Destination, String> {
    let (place, path) = match text.split_once(':') {
        Some((place, path)) => (place, Some(path.to_owned())),
        None => (text, None),
    };
    let (user, host) = match place.rsplit_once('@') {
        Some(("", _)) => return Err("there is no user before the @".into()),
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, place),
    };
    let (name, namespace) = openssh::host(host)?;
    Ok(Destination { user, name, namespace, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_written_as_for_sftp() {
        let of = |user: Option<&str>, namespace: Option<&str>, path: Option<&str>| {
            let [user, namespace, path] = [user, namespace, path].map(|part| part.map(str::to_owned));
            Ok(Destination { user, name: "api".into(), namespace, path })
        };
        assert_eq!(destination("api"), of(None, None, None));
        assert_eq!(destination("dev@api.team-a:/srv/x:y"), of(Some("dev"), Some("team-a"), Some("/srv/x:y")));
        assert_eq!(destination("a@b@api.spark:"), of(Some("a@b"), None, Some("")));
        for wrong in ["", "@api", "api@", ":/srv", "-oProxyCommand=x"] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }
}
