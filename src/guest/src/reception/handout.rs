//! How `ssh --stdio` and `ssh --admit`, which the container runtime starts and not PID 1, and connections under way speak
//! to PID 1: by an abstract socket. Each side checks the other one: PID 1 that a root of its own user namespace asks, who
//! could read PID 1's memory anyway, and the process that PID 1 answers.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::time::Duration;

use rustix::process::Pid;
use sparks_proto::{SshAnswer, SshQuestion, SshServer};
use tokio::net::{UnixListener, UnixStream, unix::UCred};
use tokio::sync::{mpsc, oneshot};

use crate::control::ControlError;
use crate::{control, log};

/// A question, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    question: SshQuestion,
    answer: oneshot::Sender<SshAnswer>,
}

impl Asked {
    /// Answers it.
    pub fn answer_by(self, know: impl FnOnce(SshQuestion) -> SshAnswer) {
        // Whoever went away meanwhile needs no answer.
        let _ = self.answer.send(know(self.question));
    }
}

/// How long anybody may take to ask and to read the answer. One is answered at a time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after an accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

fn name() -> String {
    format!("{}-ssh", control::socket_name())
}

/// Listens, before any user's code runs in the pod, and passes questions on.
///
/// # Errors
/// When the name is taken.
pub fn listen(questions: mpsc::Sender<Asked>) -> Result<(), ControlError> {
    let name = name();
    let open = || {
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let listener = open().map_err(|source| ControlError::Listen { name: name.clone(), source })?;
    tokio::spawn(serve(listener, questions));
    Ok(())
}

async fn serve(listener: UnixListener, questions: mpsc::Sender<Asked>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| is_root_inside(&peer)) {
            log::line(format_args!("ssh: refused to tell a process that is not root"));
            continue;
        }
        // Who is too slow or speaks nonsense has no answer.
        let _ = tokio::time::timeout(PATIENCE, converse(stream, &questions)).await;
        if questions.is_closed() {
            return;
        }
    }
}

async fn converse(mut stream: UnixStream, questions: &mpsc::Sender<Asked>) -> Option<()> {
    let question = sparks_proto::read(&mut stream).await.ok()?;
    let (answer, answered) = oneshot::channel();
    questions.send(Asked { question, answer }).await.ok()?;
    sparks_proto::write(&mut stream, &answered.await.ok()?).await.ok()
}

/// The kernel translates: another user namespace's root has another uid, another PID namespace's process the pid 0.
fn is_root_inside(peer: &UCred) -> bool {
    peer.uid() == 0 && peer.pid().is_some_and(|pid| pid > 0)
}

/// Why PID 1 did not say what an SSH server needs.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no PID 1 of ours, or it is of another version.
    #[error("PID 1 of the pod cannot be asked: {0}")]
    Io(#[from] io::Error),
    /// It answered something else.
    #[error("PID 1 of the pod did not answer: {0}")]
    Codec(#[from] sparks_proto::CodecError),
    /// Somebody else has its name.
    #[error("who answers is not PID 1 of the pod")]
    Impostor,
    /// Nobody has told it yet.
    #[error("SSH is not set up in this Spark yet; try again when it is ready")]
    NotYet,
}

/// Asks PID 1 what an SSH server needs to know.
///
/// # Errors
/// [`AskError`].
pub async fn ask() -> Result<SshServer, AskError> {
    match put(&SshQuestion::Server).await? {
        SshAnswer::Server(server) => Ok(server),
        SshAnswer::Admitted | SshAnswer::NotYet => Err(AskError::NotYet),
    }
}

/// Lets PID 1 admit whoever has this key.
///
/// # Errors
/// [`AskError`].
pub async fn admit(key: String) -> Result<(), AskError> {
    match put(&SshQuestion::Admit { key }).await? {
        SshAnswer::Admitted => Ok(()),
        SshAnswer::Server(_) | SshAnswer::NotYet => Err(AskError::NotYet),
    }
}

async fn put(question: &SshQuestion) -> Result<SshAnswer, AskError> {
    let mut stream = UnixStream::from_std({
        let stream = std::os::unix::net::UnixStream::connect_addr(&SocketAddr::from_abstract_name(name())?)?;
        stream.set_nonblocking(true)?;
        stream
    })?;
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 || peer.pid() != Some(Pid::INIT.as_raw_pid()) {
        return Err(AskError::Impostor);
    }
    sparks_proto::write(&mut stream, question).await?;
    Ok(sparks_proto::read(&mut stream).await?)
}
