//! The connection to one guest.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sparks_host::HostError;
use sparks_proto::{CONTROL_SOCKET, CodecError, FromGuest, VERSION};
use tokio::{io::AsyncRead, net::UnixStream, time::Instant};

use super::{Guest, Guests, gone};

/// The first pause before a guest is dialled again; it may be about to open its socket.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long a guest may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// So many messages of a guest are read at once; after that, one in [`THROTTLE`].
const BURST: u32 = 64;
/// The pause between the messages of a guest that talks too much.
const THROTTLE: Duration = Duration::from_millis(100);

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum EndedError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the control socket can't be used: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the guest did not introduce itself in time")]
    Silent,
    #[error(
        "the guest speaks version {0} of the protocol and this agent {VERSION}; it is left alone until its pod is replaced"
    )]
    Version(u32),
    #[error("the agent hung up")]
    HungUp,
}

impl Guests {
    /// Dials the guest again and again until its container is gone.
    pub(super) async fn keep_connected(self: Arc<Self>, guest: Arc<Guest>) {
        let mut pause = FIRST_PAUSE;
        while !guest.state().forgotten {
            let began = Instant::now();
            let ended = self.converse(&guest).await;
            self.disconnected(&guest).await;
            if guest.state().forgotten {
                break;
            }
            if let Err(error) = ended {
                tracing::debug!(container = guest.container, pod = %guest.pod, %error, "no connection to the guest");
            }
            pause = if began.elapsed() > MAX_PAUSE { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = guest.hang_up.notified() => {}
            }
        }
    }

    async fn converse(&self, guest: &Guest) -> Result<(), EndedError> {
        self.discover(guest).await?;
        let (host, container) = (self.host.clone(), guest.container.clone());
        let dialled = tokio::task::spawn_blocking(move || host.connect(&container, CONTROL_SOCKET)).await;
        let stream = dialled.unwrap_or_else(|_| Err(gone(&guest.container)))?;
        stream.set_nonblocking(true)?;
        let (mut reader, writer) = UnixStream::from_std(stream)?.into_split();
        let hello = tokio::time::timeout(HELLO_TIMEOUT, sparks_proto::read(&mut reader)).await;
        let FromGuest::Hello { version, running } = hello.map_err(|_| EndedError::Silent)?? else {
            return Err(EndedError::Silent);
        };
        if version != VERSION {
            return Err(EndedError::Version(version));
        }
        *guest.writer.lock().await = Some(writer);
        guest.state().hello(running);
        self.metrics.guest_connections.inc();
        self.triggers.pod(&guest.pod);
        tokio::select! {
            ended = self.listen(guest, &mut reader) => ended,
            () = guest.hang_up.notified() => Err(EndedError::HungUp),
        }
    }

    /// Takes in what the guest says, no faster than its status can show.
    async fn listen(&self, guest: &Guest, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), EndedError> {
        let (mut credit, mut since) = (BURST, Instant::now());
        loop {
            let message = sparks_proto::read(reader).await?;
            if guest.state().heard(message, Timestamp::now()) {
                self.triggers.pod(&guest.pod);
            }
            if since.elapsed() > Duration::from_secs(1) {
                (credit, since) = (BURST, Instant::now());
            }
            credit = credit.saturating_sub(1);
            if credit == 0 {
                tokio::time::sleep(THROTTLE).await;
            }
        }
    }

    async fn disconnected(&self, guest: &Guest) {
        if guest.writer.lock().await.take().is_some() || guest.view().connected {
            self.metrics.guest_connections.dec();
            guest.state().disconnected();
            self.triggers.pod(&guest.pod);
        }
    }
}
