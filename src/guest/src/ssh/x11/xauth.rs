//! What X11 programs prove themselves with, kept by xauth(1).

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::launch::DEFAULT_PATH;
use crate::users::User;

/// How long xauth may take; it waits for the lock of its file, which an earlier one may have left behind, for 20 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest protocol and cookie that are taken.
const LONGEST: usize = 1024;

/// Adds the cookie of a display to the user's file, in place of an earlier one.
///
/// # Errors
/// `InvalidInput` for what xauth might take for something else, `NotFound` without xauth, `TimedOut`.
pub async fn add(user: &User, display: &str, protocol: &[u8], cookie: &[u8]) -> io::Result<()> {
    let script = script(display, protocol, cookie)?;
    let xauth = find().ok_or_else(|| {
        io::Error::new(ErrorKind::NotFound, "xauth is not installed in the Spark, and X11 needs it")
    })?;
    let mut child = Command::new(xauth)
        .args(["-q", "-"])
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("HOME", &user.home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take();
    let work = async {
        if let Some(input) = &mut input {
            input.write_all(script.as_bytes()).await?;
        }
        drop(input);
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(io::Error::other(format!("xauth failed: {status}"))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

fn script(display: &str, protocol: &[u8], cookie: &[u8]) -> io::Result<String> {
    let (protocol, cookie) = (word(protocol)?, word(cookie)?);
    Ok(format!("remove {display}\nadd {display} {protocol} {cookie}\n"))
}

/// One word of a script: nothing that could begin another command.
fn word(bytes: &[u8]) -> io::Result<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".:/-_".contains(byte);
    let text = std::str::from_utf8(bytes).ok();
    text.filter(|text| (1..=LONGEST).contains(&text.len()) && text.as_bytes().iter().all(is_plain))
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "this is no X11 protocol and cookie"))
}

fn find() -> Option<PathBuf> {
    std::env::split_paths(DEFAULT_PATH).map(|dir| dir.join("xauth")).find(|path| path.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_cannot_become_a_command() {
        assert_eq!(
            script("unix:10.0", b"MIT-MAGIC-COOKIE-1", b"00ff").unwrap(),
            "remove unix:10.0\nadd unix:10.0 MIT-MAGIC-COOKIE-1 00ff\n"
        );
        for wrong in [&b""[..], b"a b", b"a\nexit", b"a;b", b"\xff", &[b'a'; LONGEST + 1]] {
            assert!(script("unix:10.0", b"MIT-MAGIC-COOKIE-1", wrong).is_err());
            assert!(script("unix:10.0", wrong, b"00ff").is_err());
        }
    }
}
