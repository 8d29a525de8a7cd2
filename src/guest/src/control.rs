//! The control socket: the node agent dials in, the newest connection counts.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::time::Duration;

use sparks_proto::{FromGuest, ToGuest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::log;

/// Names another abstract socket than [`sparks_proto::CONTROL_SOCKET`]. For tests: one network namespace has room for
/// one guest under the default name.
pub const SOCKET_VARIABLE: &str = "SPARKS_CONTROL_SOCKET";

/// So many messages may wait for an agent that reads slowly; it is disconnected at the next one.
const OUTBOX: usize = 64;

/// How long an agent may take to read a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after an accept failed, for instance because PID 1 is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What happens on the socket.
#[derive(Debug)]
pub enum Event {
    /// An agent dialled in; from now on it alone counts.
    Connected(Connection),
    /// The agent of that connection said something.
    Message(u64, Box<ToGuest>),
    /// That connection is gone.
    Closed(u64),
}

/// One connection of an agent; it is closed by dropping this.
#[derive(Debug)]
pub struct Connection {
    /// Which one.
    pub id: u64,
    outbox: mpsc::Sender<FromGuest>,
}

impl Connection {
    /// Queues a message; `false` when the connection is gone or doesn't keep up and should be dropped.
    pub fn send(&self, message: FromGuest) -> bool {
        self.outbox.try_send(message).is_ok()
    }
}

/// Why the guest can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody else has the name, or there is no network namespace to speak of.
    #[error("the control socket @{name} cannot be opened: {source}")]
    Listen {
        /// The abstract name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// The abstract name, without the leading NUL.
pub fn socket_name() -> String {
    std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| sparks_proto::CONTROL_SOCKET.into())
}

/// Listens on the control socket and reports what happens there.
///
/// # Errors
/// [`ControlError`] when the socket can't be opened; nothing later ends it.
pub fn listen(events: mpsc::Sender<Event>) -> Result<(), ControlError> {
    let name = socket_name();
    let open = || {
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let listener = open().map_err(|source| ControlError::Listen { name: name.clone(), source })?;
    tokio::spawn(accept(listener, events));
    Ok(())
}

async fn accept(listener: UnixListener, events: mpsc::Sender<Event>) {
    for id in 0.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::line(format_args!("the control socket could not accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        if !is_from_outside(pid) {
            log::line(format_args!(
                "refused a control connection from inside the pod, pid {}",
                pid.unwrap_or(-1)
            ));
            continue;
        }
        let (outbox, messages) = mpsc::channel(OUTBOX);
        if events.send(Event::Connected(Connection { id, outbox })).await.is_err() {
            return;
        }
        tokio::spawn(serve(id, stream, messages, events.clone()));
    }
}

/// Whether a peer with that pid may control the guest. The kernel reports pid 0 for a process that isn't in the PID
/// namespace of who asks (pid_namespaces(7)), which no process of the Spark's users can be.
fn is_from_outside(pid: Option<i32>) -> bool {
    pid == Some(0)
}

/// Carries messages both ways until either side ends: the agent hangs up or speaks nonsense, or the guest drops its
/// [`Connection`].
async fn serve(
    id: u64,
    mut stream: UnixStream,
    mut messages: mpsc::Receiver<FromGuest>,
    events: mpsc::Sender<Event>,
) {
    let (mut read, mut write) = stream.split();
    let inbound = async {
        loop {
            match sparks_proto::read(&mut read).await {
                Ok(message) => {
                    if events.send(Event::Message(id, Box::new(message))).await.is_err() {
                        return;
                    }
                }
                Err(sparks_proto::CodecError::Io(_)) => return,
                Err(error) => return log::line(format_args!("closed the control connection: {error}")),
            }
        }
    };
    let outbound = async {
        while let Some(message) = messages.recv().await {
            let written = sparks_proto::write(&mut write, &message);
            if !matches!(tokio::time::timeout(WRITE_TIMEOUT, written).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
    }
    // Nobody listens any more only when PID 1 is about to exit.
    let _ = events.send(Event::Closed(id)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_outside_of_the_pid_namespace_may_control() {
        assert!(is_from_outside(Some(0)));
        for inside in [Some(1), Some(17), Some(-1), None] {
            assert!(!is_from_outside(inside), "{inside:?}");
        }
    }
}
