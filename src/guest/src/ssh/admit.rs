//! `ssh --admit`: whoever may run programs in the pod logs in by TCP with a key of its own.

use std::io::{self, BufRead};

use super::config;
use crate::reception::{self, AskError};

/// More than any key has.
const MAX_LINE: u64 = 16 << 10;

/// Why a key is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Standard input, or the runtime.
    #[error("the key cannot be read: {0}")]
    Read(#[from] io::Error),
    /// What is there.
    #[error("the first line of standard input is no public key, or there is more in it than that")]
    Key,
    /// PID 1.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Admits the key of the first line of standard input.
///
/// # Errors
/// [`AdmitError`].
pub fn main() -> Result<(), AdmitError> {
    let key = read(io::stdin().lock())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    Ok(runtime.block_on(reception::admit(key))?)
}

/// The key without its comment. Nothing behind its line is waited for, because not every way tells of an end.
fn read(from: impl BufRead) -> Result<String, AdmitError> {
    let mut line = String::new();
    from.take(MAX_LINE).read_line(&mut line)?;
    let mut key = config::bare_key(&line).ok_or(AdmitError::Key)?;
    key.set_comment("");
    key.to_openssh().map_err(|_| AdmitError::Key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn the_key_of_the_first_line_is_told_without_its_comment() {
        assert_eq!(read(format!("{KEY} spark\nmore").as_bytes()).unwrap(), KEY);
        assert_eq!(read(KEY.as_bytes()).unwrap(), KEY);
    }

    #[test]
    fn what_is_no_bare_key_is_told_to_nobody() {
        let long = format!("{KEY} {}", "x".repeat(usize::try_from(MAX_LINE).unwrap()));
        for line in ["", "\n", &format!("\n{KEY}\n"), &format!("no-pty {KEY}\n")] {
            assert!(matches!(read(line.as_bytes()), Err(AdmitError::Key)), "{line}");
        }
        assert_eq!(read(long.as_bytes()).unwrap(), KEY, "a comment may be cut off, a key may not");
    }
}
