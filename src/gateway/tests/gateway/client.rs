//! OpenSSH's client.

use std::{
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use sparks_ssh::transport::{PrivateKey, ssh_key::LineEnding};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{Gateway, PATIENCE};

/// Writes a file that OpenSSH takes for a secret.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::io::Write;
    let path = folder.join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.write_all(b"\n").unwrap();
    path
}

pub fn write_key(folder: &Path, name: &str, key: &PrivateKey) {
    write(folder, name, &key.to_openssh(LineEnding::LF).unwrap());
    write(folder, &format!("{name}.pub"), &key.public_key().to_openssh().unwrap());
}

/// What a client said, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
        Self { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Gateway {
    /// `ssh` with Alice's key.
    pub fn ssh(&self, arguments: &[&str]) -> Command {
        self.ssh_with("config", arguments)
    }

    /// `ssh` with Mallory's key.
    pub fn ssh_of_mallory(&self, arguments: &[&str]) -> Command {
        self.ssh_with("config-mallory", arguments)
    }

    fn ssh_with(&self, config: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.path(config)).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs `ssh` to its end.
    pub async fn run(&self, arguments: &[&str]) -> Said {
        finish(self.ssh(arguments)).await
    }

    /// Runs `ssh` with something on standard input.
    pub async fn run_with(&self, arguments: &[&str], input: Vec<u8>) -> Said {
        let mut child = self.ssh(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
        output.into()
    }

    /// A user certificate for Alice's key; `ssh` finds it by the name of the key.
    pub async fn certify(&self, principals: &str, more: &[&str]) -> PathBuf {
        let copy = self.path("alice.pub");
        let mut command = Command::new("ssh-keygen");
        command
            .arg("-q")
            .arg("-s")
            .arg(self.path("ca"))
            .args(["-I", "alice", "-n", principals])
            .args(more)
            .arg(copy);
        assert!(command.status().await.unwrap().success());
        self.path("alice-cert.pub")
    }
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Said {
    timeout(PATIENCE, command.output()).await.expect("in time").unwrap().into()
}
