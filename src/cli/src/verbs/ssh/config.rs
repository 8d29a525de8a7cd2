//! `spark ssh-config`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sparks_api::Spark;

use super::default_user;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::identity::{folder, make_folder};
use crate::myself::Myself;
use crate::openssh::{SUFFIX, Way, WayArgs, settings};
use crate::output;

/// Name of our file, beside `ssh_config`'s own.
const FILE: &str = "spark.conf";
/// What makes OpenSSH read it; it must stand before the first Host.
const INCLUDE: &str = "Include spark.conf";

/// Let ssh, scp, rsync and editors reach every Spark: ssh api.spark, or ssh api.team-a.spark.
///
/// Writes ~/.ssh/spark.conf and includes it in ~/.ssh/config. Sparks that are there now are listed in it, so that
/// editors offer them; others work as well, as root. Run it again to refresh the list, and after a Spark with an ssh.user of
/// its own was made. The file names the kubeconfig, the context and the namespace of now, so that it leads there from
/// everywhere and later too. The connections go as those of spark ssh do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print what would be written, and write nothing
    #[arg(long, visible_alias = "dry-run")]
    pub stdout: bool,
    /// Take it away again
    #[arg(long, conflicts_with = "stdout")]
    pub remove: bool,
    /// By which way the bytes may go
    #[command(flatten)]
    pub way: WayArgs,
}

/// Writes, prints or removes it.
pub async fn run(context: &Context, args: Args) -> Outcome {
    if args.remove {
        return remove(context, &folder()?);
    }
    let namespace = context.sparks.namespace();
    let way = if args.stdout { args.way.plan() } else { args.way.prepare(false) };
    let myself = Myself::anywhere(&context.options, namespace)?;
    let text = config(&myself, &way, namespace, &context.sparks.list("").await?);
    if args.stdout {
        output::line(text.trim_end())?;
        return Ok(0);
    }
    write(&folder()?, &text)?;
    let cluster = myself.context().map(|context| format!(" in context {context}")).unwrap_or_default();
    context.say(&format!(
        "ssh NAME{SUFFIX} reaches every Spark of {namespace}{cluster}, ssh NAME.NAMESPACE{SUFFIX} every other"
    ))?;
    Ok(0)
}

fn config(myself: &Myself, way: &Way, namespace: &str, sparks: &[Spark]) -> String {
    let mut text = String::from("# Written by spark ssh-config; changes are lost when it runs again.\n");
    for spark in sparks {
        let name = spark.metadata.name.as_deref().unwrap_or_default();
        // Writing to a String can't fail.
        let _ =
            writeln!(text, "Host {name}{SUFFIX} {name}.{namespace}{SUFFIX}\n  User {}", default_user(spark));
    }
    let _ = writeln!(text, "Host *{SUFFIX}\n  User root");
    for (name, value) in settings(myself, way) {
        let _ = writeln!(text, "  {name} {value}");
    }
    text
}

fn write(folder: &Path, text: &str) -> Result<(), CliError> {
    make_folder(folder)?;
    replace(&folder.join(FILE), text)?;
    let main = folder.join("config");
    let old = read(&main)?;
    if old.lines().any(|line| line.trim() == INCLUDE) {
        return Ok(());
    }
    replace(&main, &format!("{INCLUDE}\n\n{old}"))
}

fn remove(context: &Context, folder: &Path) -> Outcome {
    let main = folder.join("config");
    let old = read(&main)?;
    if old.lines().any(|line| line.trim() == INCLUDE) {
        let kept: String =
            old.lines().filter(|line| line.trim() != INCLUDE).map(|line| format!("{line}\n")).collect();
        replace(&main, kept.trim_start_matches('\n'))?;
    }
    let ours = folder.join(FILE);
    match std::fs::remove_file(&ours) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&ours)(error)),
        _ => {}
    }
    context.say("ssh knows Sparks no longer")?;
    Ok(0)
}

fn read(path: &Path) -> Result<String, CliError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(at(path)),
    }
}

/// Whole or not at all. A link, as those who keep their configuration elsewhere have, stays one.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = path.with_extension("spark-new");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(at(&new))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&new))?;
    std::fs::rename(&new, path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.display().to_string();
    |source| CliError::File { path, source }
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

    #[test]
    fn what_the_user_wrote_stays_and_the_include_comes_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("config");
        std::fs::write(&main, "Host a\n  User b\n").unwrap();
        for text in ["one", "two"] {
            write(folder.path(), text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&main).unwrap(), "Include spark.conf\n\nHost a\n  User b\n");
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), "two");
    }

    #[test]
    fn every_spark_is_listed_with_its_user_before_the_rule_for_all() {
        let mut spark = Spark::new("api", Default::default());
        let ssh = sparks_api::SshStatus { user: Some("dev".into()), ..Default::default() };
        spark.status = Some(sparks_api::SparkStatus { ssh: Some(ssh), ..Default::default() });
        let way = Line::parse_from(["ssh-config"]).args.way.plan();
        let text = config(&Myself::here(&Default::default()).unwrap(), &way, "team-a", &[spark]);
        let (listed, rule) = text.split_once("Host *.spark").unwrap();
        assert!(listed.ends_with("Host api.spark api.team-a.spark\n  User dev\n"));
        assert!(rule.contains("ssh-proxy --identity ") && rule.contains("\n  IdentityFile "), "{rule}");
    }
}
