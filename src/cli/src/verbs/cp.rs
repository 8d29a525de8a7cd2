//! `spark cp`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap_complete::engine::ArgValueCompleter;
use tokio::io::DuplexStream;
use tokio_util::io::SyncIoBridge;

use crate::archive::{Report, Target, first_is_directory, pack, unpack};
use crate::complete::endpoints;
use crate::context::Context;
use crate::errors::{self, CliError, FAILED, Outcome};
use crate::human;
use crate::progress::Progress;

/// Size of the pipe between the connection and the archive.
const PIPE: usize = 256 * 1024;

/// So many of the things that are left out are named.
const NOTES: usize = 5;

/// Copy files and directories into a Spark or out of it.
///
/// A directory as destination takes the source in; any other destination is its new name. `DIR/.` stands for what is
/// in DIR. What comes into a Spark belongs to root there. What comes out of one is never written outside of the
/// destination; links that lead out of it are left out. Ends with 1 when anything was left out.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PATH, or NAME:/PATH in a Spark
    #[arg(value_name = "SRC", value_parser = endpoint, add = ArgValueCompleter::new(endpoints))]
    pub from: Endpoint,
    /// PATH, or NAME:/PATH in a Spark
    #[arg(value_name = "DST", value_parser = endpoint, add = ArgValueCompleter::new(endpoints))]
    pub to: Endpoint,
}

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Here.
    Local(PathBuf),
    /// In a Spark.
    Remote {
        /// Its name.
        spark: String,
        /// An absolute path in it.
        path: String,
    },
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    // A slash before the colon makes it a local path, as with scp.
    match text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains('/')) {
        None if text.is_empty() => Err("write a path, or NAME:/PATH".into()),
        None => Ok(Endpoint::Local(text.into())),
        Some((name, path)) if path.starts_with('/') => {
            Ok(Endpoint::Remote { spark: crate::parse::name(name)?, path: path.into() })
        }
        Some((name, path)) => {
            Err(format!("a path in a Spark is absolute: write {name}:/{path}, or ./{text} for a local file"))
        }
    }
}

/// Copies.
pub async fn run(context: &Context, args: Args) -> Outcome {
    match (args.from, args.to) {
        (Endpoint::Local(from), Endpoint::Remote { spark, path }) => {
            upload(context, &from, &spark, &path).await
        }
        (Endpoint::Remote { spark, path }, Endpoint::Local(to)) => {
            download(context, &spark, &path, &to).await
        }
        (Endpoint::Local(_), Endpoint::Local(_)) => {
            Err(CliError::Usage("one end must be in a Spark: write NAME:/PATH".into()))
        }
        (Endpoint::Remote { .. }, Endpoint::Remote { .. }) => {
            Err(CliError::Usage("one end must be here: copy to a local path first, or fork the Spark".into()))
        }
    }
}

/// Where something is put: a directory that exists, and a name in it; no name for what is in the source.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: String,
    name: Option<String>,
}

/// Where a source goes. `name` is the source's own, none for what is in it.
fn place(name: Option<String>, to: &str, is_directory: bool) -> Place {
    if is_directory || to.ends_with('/') {
        let directory = if to == "/" { to } else { to.trim_end_matches('/') };
        return Place { directory: directory.into(), name };
    }
    let path = Path::new(to);
    let parent = path.parent().map(|parent| parent.display().to_string()).filter(|parent| !parent.is_empty());
    Place { directory: parent.unwrap_or_else(|| ".".into()), name: Some(last_name(path).unwrap_or_default()) }
}

fn last_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// The source's own name; none when what is in it is meant (`DIR/.`, `.`, `/`).
fn own_name(text: &str) -> Option<String> {
    let is_content = text == "." || text.ends_with("/.") || text.ends_with("..");
    if is_content { None } else { last_name(Path::new(text)) }
}

async fn upload(context: &Context, from: &Path, spark: &str, to: &str) -> Outcome {
    let file_error = |source| CliError::File { path: from.display().to_string(), source };
    // Fails before anything is asked of the cluster.
    let _ = std::fs::metadata(from).map_err(file_error)?;
    let is_directory = to.ends_with('/') || remote_is_directory(context, spark, to).await?;
    let place = place(own_name(&from.to_string_lossy()), to, is_directory);
    let progress = Progress::of_bytes(context.quiet, &format!("copying to {spark}"));
    let (near, far) = tokio::io::duplex(PIPE);
    let (source, top) = (from.to_path_buf(), place.name.clone().unwrap_or_else(|| ".".into()));
    let counted = progress.clone();
    let mut near = SyncIoBridge::new(near);
    let packing = tokio::task::spawn_blocking(move || {
        let out = Counted { inner: &mut near, progress: counted };
        let packed = pack(&source, &top, out);
        // Only the end of a whole archive is told as an end.
        near.shutdown().and(packed)
    });
    let process = context.sparks.tar_in(spark, &place.directory).await?;
    let mut said = Vec::new();
    let ran = process.run(far, tokio::io::sink(), &mut said).await;
    let packed = packing.await?;
    progress.clear();
    let complete =
        tell(ran, &said, packed.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe))?;
    let left_out = packed.map_err(file_error)?;
    finish(context, &left_out, complete, &format!("copied to {spark}:{to}"), progress.bytes())
}

async fn download(context: &Context, spark: &str, from: &str, to: &Path) -> Outcome {
    let place = place(own_name(from), &to.to_string_lossy(), to.is_dir());
    let target = Target { directory: place.directory.into(), name: place.name };
    let progress = Progress::of_bytes(context.quiet, &format!("copying from {spark}"));
    let process = context.sparks.tar_out(spark, from).await?;
    let (near, far) = tokio::io::duplex(PIPE);
    let counted = progress.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut stream = Counted { inner: SyncIoBridge::new(near), progress: counted };
        let report = unpack(&mut stream, &target)?;
        // What follows the archive's end is padding; a writer that is cut off would report it.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        Ok::<Report, CliError>(report)
    });
    let mut said = Vec::new();
    let ran = process.run(tokio::io::empty(), far, &mut said).await;
    let unpacked = unpacking.await?;
    progress.clear();
    let complete = tell(ran, &said, unpacked.is_err())?;
    let report = unpacked?;
    if report.entries == 0 && !complete {
        return Err(CliError::Remote(format!("nothing was copied from {spark}:{from}")));
    }
    finish(context, &report.left_out, complete, &format!("copied to {}", to.display()), progress.bytes())
}

/// Whether the helper did all; what it said is passed on. With an error of our own (`is_ours`), its complaint that the
/// stream broke is left out.
fn tell(ran: spark_client::Result<i32>, said: &[u8], is_ours: bool) -> Result<bool, CliError> {
    if is_ours {
        return Ok(false);
    }
    let said = String::from_utf8_lossy(said);
    let lines: Vec<String> =
        said.lines().map(|line| human::printable(line.trim_start_matches("sparks-guest: "))).collect();
    match (ran?, lines.split_last()) {
        (0, _) => lines.iter().for_each(|line| errors::warn(line)),
        (_, Some((last, notes))) => {
            notes.iter().for_each(|line| errors::warn(line));
            return Err(CliError::Remote(last.clone()));
        }
        (code, None) => {
            return Err(CliError::Remote(format!("the helper in the Spark failed with exit code {code}")));
        }
    }
    Ok(true)
}

fn finish(context: &Context, left_out: &[String], complete: bool, what: &str, bytes: u64) -> Outcome {
    left_out.iter().take(NOTES).for_each(|note| errors::warn(&human::printable(note)));
    if left_out.len() > NOTES {
        errors::warn(&format!("and {} more are left out", left_out.len() - NOTES));
    }
    let size = human::bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
    context.say(&format!("{what} ({size})"))?;
    Ok(if complete && left_out.is_empty() { 0 } else { FAILED })
}

/// Whether a path in a Spark is a directory. Its own archive says so in the first entry, so that nothing needs to be
/// installed in the Spark; what doesn't exist is none.
async fn remote_is_directory(context: &Context, spark: &str, path: &str) -> Result<bool, CliError> {
    let process = context.sparks.tar_out(spark, path).await?;
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(PIPE);
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let mut reading = tokio::task::spawn_blocking(move || {
        let first = first_is_directory(SyncIoBridge::new(near));
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = first;
    });
    let run = process.run(tokio::io::empty(), far, tokio::io::sink());
    tokio::select! {
        // The rest is not waited for.
        read = &mut reading => read?,
        ran = run => {
            if let Err(error @ spark_client::Error::ConnectionLost(_)) = ran {
                return Err(error.into());
            }
            reading.await?;
        }
    }
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(false);
    Ok(found)
}

/// Tells the progress how much passes.
struct Counted<T> {
    inner: T,
    progress: Progress,
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}

impl<T: std::io::Write> std::io::Write for Counted<T> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(data)?;
        self.progress.add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_the_colon_is_a_spark_and_a_path_is_not() {
        let remote = Endpoint::Remote { spark: "api".into(), path: "/etc/hosts".into() };
        assert_eq!(endpoint("api:/etc/hosts").unwrap(), remote);
        for local in ["file", "./a:b", "/a:b", "dir/a:/b", ":x"] {
            assert_eq!(endpoint(local).unwrap(), Endpoint::Local(local.into()), "{local}");
        }
    }

    #[test]
    fn a_path_in_a_spark_is_absolute() {
        for wrong in ["api:etc", "api:", "Api:/x", ""] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_directory_takes_the_source_in_and_anything_else_is_its_new_name() {
        let of = |name: Option<&str>, to, is_directory| {
            let place = place(name.map(Into::into), to, is_directory);
            (place.directory, place.name)
        };
        let expect = |directory: &str, name: &str| (directory.to_owned(), Some(name.to_owned()));
        assert_eq!(of(Some("f"), "/srv", true), expect("/srv", "f"));
        assert_eq!(of(Some("f"), "/srv/", false), expect("/srv", "f"));
        assert_eq!(of(Some("f"), "/", false), expect("/", "f"));
        assert_eq!(of(Some("f"), "/srv/g", false), expect("/srv", "g"));
        assert_eq!(of(Some("f"), "g", false), expect(".", "g"));
        assert_eq!(of(None, "/srv", true), ("/srv".to_owned(), None));
        assert_eq!(of(None, "/srv/g", false), expect("/srv", "g"));
    }

    #[test]
    fn a_dot_at_the_end_means_what_is_in_the_directory() {
        for content in [".", "./", "/a/.", "/", ".."] {
            let text = if content == "./" { "." } else { content };
            assert_eq!(own_name(text), None, "{content}");
        }
        assert_eq!(own_name("/a/b/").as_deref(), Some("b"));
        assert_eq!(own_name("a").as_deref(), Some("a"));
    }
}
