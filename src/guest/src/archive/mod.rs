//! `tar-out` and `tar-in`: the two ends of `spark cp`, so that a Spark's image needs no tar.

mod extract;
mod write;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use extract::{ExtractOptions, extract};
pub use write::write;

/// Whether everything was carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Complete,
    /// Something was left out, which was said on standard error.
    Incomplete,
}

/// Why an archive could not be written or extracted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream broke, or is no tar stream.
    #[error("the tar stream failed: {0}")]
    Stream(#[source] io::Error),
    /// A path that doesn't exist or can't be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory to extract into.
    #[error("the directory {path} cannot be opened: {source}; it must exist")]
    Into {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry that would be written outside of the directory.
    #[error("refused {0:?}: it leads out of the directory that is extracted into")]
    Escape(PathBuf),
    /// An entry that could not be made.
    #[error("{path:?} cannot be extracted: {source}")]
    Extract {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry whose owner can't be set.
    #[error("{path:?} cannot be given to {uid}:{gid}: {source}; use --no-same-owner to keep it")]
    Owner {
        /// Which.
        path: PathBuf,
        /// The archive's user id.
        uid: u64,
        /// The archive's group id.
        gid: u64,
        /// Why.
        source: io::Error,
    },
}

/// Says what was left out.
fn note(path: &Path, why: impl Display) {
    let _ = writeln!(io::stderr(), "sparks-guest: {}: {why}", path.display());
}
