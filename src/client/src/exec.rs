//! Running commands in a Spark, and its logs.

use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, LogParams};
use sparks_api::conditions::{self, READY};
use sparks_api::{Spark, SparkPhase, SparkStatus};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::Subject;
use crate::socket::Socket;
use crate::{CONTAINER, Error, Result, Sparks};

/// The guest's own program in every Spark, whatever its image holds.
const GUEST: &str = "/proc/1/exe";

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtySize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub cols: u16,
}

/// A command to run in a Spark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments; the user's login shell when empty.
    pub command: Vec<String>,
    /// User name or `uid[:gid]`; root when empty.
    pub user: Option<String>,
    /// Working directory; the user's home when empty.
    pub workdir: Option<String>,
    /// Additions to the environment.
    pub env: Vec<(String, String)>,
    /// Whether the command runs through the login shell.
    pub login: bool,
    /// Whether it has a terminal, and of which size.
    pub tty: Option<TtySize>,
    /// Whether it gets an input.
    pub stdin: bool,
}

impl Exec {
    /// A command without terminal, as root.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Default::default() }
    }

    /// The command line of the guest's helper.
    fn argv(&self) -> Vec<String> {
        let mut argv = vec![GUEST.to_owned(), "enter".into()];
        let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
        if let Some(TtySize { rows, cols }) = self.tty {
            option("--tty-size", &format!("{rows}x{cols}"));
        }
        self.user.iter().for_each(|user| option("--user", user));
        self.workdir.iter().for_each(|dir| option("--workdir", dir));
        self.env.iter().for_each(|(name, value)| option("--env", &format!("{name}={value}")));
        if self.login {
            argv.push("--login".into());
        }
        if !self.command.is_empty() {
            argv.push("--".into());
            argv.extend(self.command.iter().cloned());
        }
        argv
    }
}

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to its output.
    pub stdout: Vec<u8>,
    /// What it wrote to its error output.
    pub stderr: Vec<u8>,
}

/// A running command.
pub struct Process {
    spark: String,
    socket: Socket,
    sizes: Receiver<TtySize>,
    resizer: Option<Resizer>,
}

impl Process {
    /// Where changes of the terminal's size are sent to; there is one only with a terminal, and only once.
    pub fn take_resizer(&mut self) -> Option<Resizer> {
        self.resizer.take()
    }

    /// Connects the command with `stdin`, `stdout` and `stderr` until it ends, and returns its exit code. The command
    /// sees the end of `stdin`.
    ///
    /// # Errors
    /// [`Error::Exec`] when it could not be started, [`Error::ConnectionLost`], [`Error::Io`] when `stdout` or
    /// `stderr` fails.
    pub async fn run(
        self,
        stdin: impl AsyncRead + Unpin,
        stdout: impl AsyncWrite + Unpin,
        stderr: impl AsyncWrite + Unpin,
    ) -> Result<i32> {
        match self.socket.run(stdin, stdout, stderr, self.sizes).await? {
            Some(status) => exit_code(&status),
            None => Err(Error::ConnectionLost(self.spark)),
        }
    }
}

/// Sends the size of the local terminal.
pub struct Resizer(Sender<TtySize>);

impl Resizer {
    /// Sends a new size. A command that has ended doesn't care.
    pub async fn send(&mut self, size: TtySize) {
        let _ = self.0.send(size).await;
    }
}

/// The exit code that the kubelet reports.
fn exit_code(status: &Status) -> Result<i32> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref()?.parse().ok());
    code.ok_or_else(|| {
        Error::Exec(status.message.clone().unwrap_or_else(|| "the kubelet gave no reason".into()))
    })
}

/// Which part of the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to go on with what is written later.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<i64>,
    /// Only what is not older.
    pub since: Option<Duration>,
}

impl Sparks {
    /// Starts a command in a Spark.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stopped`], [`Error::NotRunning`] and whatever the API server refuses.
    pub async fn exec(&self, spark: &str, exec: &Exec) -> Result<Process> {
        self.start_process(spark, exec.argv(), exec.stdin, exec.tty.is_some()).await
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// As [`Sparks::exec`] and [`Process::run`]; not because of the command's exit code.
    pub async fn run(&self, spark: &str, exec: Exec, input: &[u8]) -> Result<Output> {
        let exec = Exec { stdin: exec.stdin || !input.is_empty(), ..exec };
        let process = self.exec(spark, &exec).await?;
        let mut output = Output::default();
        output.code = process.run(input, &mut output.stdout, &mut output.stderr).await?;
        Ok(output)
    }

    /// Writes paths of a Spark as a tar stream to the output of the process.
    ///
    /// # Errors
    /// As [`Sparks::exec`].
    pub async fn tar_out(&self, spark: &str, path: &str) -> Result<Process> {
        let argv = [GUEST, "tar-out", "--", path].map(String::from);
        self.start_process(spark, argv.into(), false, false).await
    }

    /// Extracts a tar stream from the input of the process into a directory of a Spark.
    ///
    /// # Errors
    /// As [`Sparks::exec`].
    pub async fn tar_in(&self, spark: &str, into: &str) -> Result<Process> {
        let argv = [GUEST, "tar-in", "--into", into].map(String::from);
        self.start_process(spark, argv.into(), true, false).await
    }

    /// Speaks SSH with the guest's own server: whoever may run commands in a Spark needs no key there. The Spark is
    /// taken as it was last seen, and not asked for again.
    ///
    /// # Errors
    /// As [`Sparks::exec`].
    pub async fn ssh(&self, spark: &Spark) -> Result<Process> {
        let argv = [GUEST, "ssh", "--stdio"].map(String::from);
        self.start_in(spark, argv.into(), true, false).await
    }

    /// Lets whoever has this key log in at the Spark's SSH port within the next minute, as whoever may run commands in
    /// it: `key` is a public key as OpenSSH writes it. The Spark is taken as it was last seen.
    ///
    /// # Errors
    /// As [`Sparks::exec`], and [`Error::Exec`] when the guest doesn't take it or is too old to know how.
    pub async fn admit(&self, spark: &Spark, key: &str) -> Result<()> {
        let argv = [GUEST, "ssh", "--admit"].map(String::from);
        let process = self.start_in(spark, argv.into(), true, false).await?;
        let line = format!("{key}\n");
        // It stays open: API servers before 1.30 can't tell of its end without ending the connection.
        let (mut open, stdin) = tokio::io::duplex(line.len());
        open.write_all(line.as_bytes()).await?;
        let mut complaint = Vec::new();
        match process.run(stdin, tokio::io::sink(), &mut complaint).await? {
            0 => Ok(()),
            _ => Err(Error::Exec(String::from_utf8_lossy(&complaint).trim().to_owned())),
        }
    }

    async fn start_process(&self, spark: &str, argv: Vec<String>, stdin: bool, tty: bool) -> Result<Process> {
        self.start_in(&self.get(spark).await?, argv, stdin, tty).await
    }

    async fn start_in(&self, found: &Spark, argv: Vec<String>, stdin: bool, tty: bool) -> Result<Process> {
        let pod = running_pod(found)?;
        let spark = found.metadata.name.clone().unwrap_or_default();
        if is_drowsy(found) {
            // Whoever comes in just before it falls asleep shall not be cut off.
            self.wake(&spark).await?;
        }
        let params = AttachParams {
            container: Some(CONTAINER.into()),
            stdin,
            stdout: true,
            // With a terminal there is one output.
            stderr: !tty,
            tty,
            ..Default::default()
        };
        let api = self.api::<Pod>();
        let opened = Socket::open(&self.client, api.resource_url(), &pod, &argv, &params).await;
        let subject = Subject { kind: "pod", name: pod, namespace: self.namespace.clone() };
        let socket = opened.map_err(|error| subject.error(error))?;
        let (resizer, sizes) = channel(1);
        Ok(Process { spark, socket, sizes, resizer: tty.then_some(Resizer(resizer)) })
    }

    /// The logs of a Spark since it was started last.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stopped`], [`Error::NotRunning`] and whatever the API server refuses.
    pub async fn logs(&self, spark: &str, options: &LogOptions) -> Result<impl AsyncBufRead + use<>> {
        let pod = pod_of(&self.get(spark).await?)?;
        let params = LogParams {
            container: Some(CONTAINER.into()),
            follow: options.follow,
            tail_lines: options.tail,
            since_seconds: options
                .since
                .map(|since| i64::try_from(since.as_secs().max(1)).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        let subject = Subject { kind: "pod", name: pod.clone(), namespace: self.namespace.clone() };
        self.api::<Pod>().log_stream(&pod, &params).await.map_err(|error| subject.error(error))
    }
}

/// Idle, and so maybe about to fall asleep.
fn is_drowsy(spark: &Spark) -> bool {
    spark.spec.lifecycle.idle_timeout.is_some()
        && spark.status.as_ref().is_some_and(|status| status.idle_since.is_some())
}

/// The pod of a Spark, running or not.
fn pod_of(spark: &Spark) -> Result<String> {
    let name = || spark.metadata.name.clone().unwrap_or_default();
    let status = spark.status.as_ref();
    match status.and_then(|status| status.pod_name.clone()) {
        Some(pod) => Ok(pod),
        None if status.is_some_and(|s| s.phase == SparkPhase::Stopped) => Err(Error::Stopped(name())),
        None if status.is_some_and(|s| s.phase == SparkPhase::Sleeping) => Err(Error::Sleeping(name())),
        None => {
            let ready = status.and_then(|status| conditions::find(&status.conditions, READY));
            let why = ready.map_or("the controller has not seen it yet", |ready| &ready.message);
            Err(Error::NotRunning { name: name(), why: why.into() })
        }
    }
}

/// The pod of a Spark whose disks are attached: before that, a command would run in the empty pod.
fn running_pod(spark: &Spark) -> Result<String> {
    let pod = pod_of(spark)?;
    let status = spark.status.as_ref();
    if status.is_some_and(SparkStatus::runs) {
        return Ok(pod);
    }
    let ready = status.and_then(|status| conditions::find(&status.conditions, READY));
    let why = ready.map_or("it is starting", |ready| &ready.message).to_owned();
    Err(Error::NotRunning { name: spark.metadata.name.clone().unwrap_or_default(), why })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_command_is_kept_apart_from_the_helpers_options() {
        let exec = Exec {
            user: Some("u".into()),
            env: vec![("A".into(), "b=c".into())],
            tty: Some(TtySize { rows: 24, cols: 80 }),
            ..Exec::new(["ls", "--user"])
        };
        let words = "/proc/1/exe enter --tty-size 24x80 --user u --env A=b=c -- ls --user";
        assert_eq!(exec.argv().join(" "), words);
        assert_eq!(Exec::default().argv(), [GUEST, "enter"]);
    }

    #[test]
    fn the_exit_code_is_the_commands_own() {
        let of = |status: serde_json::Value| exit_code(&serde_json::from_value(status).unwrap());
        assert_eq!(of(json!({"status": "Success"})).unwrap(), 0);
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}});
        assert_eq!(of(failed).unwrap(), 42);
        let broken = json!({"status": "Failure", "reason": "InternalError", "message": "no such container"});
        assert_eq!(of(broken).unwrap_err().to_string(), "the command could not be run: no such container");
    }

    #[test]
    fn no_command_runs_in_a_pod_that_is_not_a_spark_yet() {
        let spark = |phase: &str, runs: &str| -> Spark {
            serde_json::from_value(json!({"apiVersion": "sparks.loop.work/v1alpha1", "kind": "Spark",
                "metadata": {"name": "x"}, "spec": {}, "status": {"phase": phase, "podName": "p", "conditions": [
                {"type": "Running", "status": runs, "reason": "X", "message": "m", "lastTransitionTime": "2025-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        assert!(running_pod(&spark("Starting", "False")).is_err());
        assert_eq!(running_pod(&spark("Starting", "True")).unwrap(), "p");
        assert_eq!(running_pod(&spark("Running", "True")).unwrap(), "p");
    }
}
