//! The guest's own few lines in the container's log.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line; a log that nobody reads any more is no reason to fail.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "sparks-guest: {text}");
}
