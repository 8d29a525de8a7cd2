//! A channel, and what is said about it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    ChannelReader, ChannelWriter, Disconnected, Requests,
    channel::{Handle, Hold, Shared},
    core::Link,
    lock,
};
use crate::wire::{Message, RequestKind};

/// An open channel. Its parts may go to different tasks, and each may be dropped alone; the last one closes the
/// channel.
#[derive(Debug)]
pub struct Channel {
    /// Data.
    pub reader: ChannelReader,
    /// Data of standard error, which only clients get.
    pub stderr: ChannelReader,
    /// Data to the peer.
    pub writer: ChannelWriter,
    /// What the peer asks.
    pub requests: Requests,
    /// Everything else.
    pub control: Control,
}

impl Channel {
    pub(super) fn new(channel: Arc<Shared>, link: Arc<Link>) -> Self {
        let handle = Handle::new(channel, link);
        Self {
            reader: ChannelReader::data(Arc::clone(&handle)),
            stderr: ChannelReader::stderr(Arc::clone(&handle)),
            writer: ChannelWriter::new(Arc::clone(&handle)),
            requests: Requests::new(Arc::clone(&handle)),
            control: Control { handle },
        }
    }
}

/// Says something about a channel. What is said leaves after all that was said, and all data that was accepted,
/// before.
#[derive(Clone, Debug)]
pub struct Control {
    handle: Arc<Handle>,
}

impl Control {
    /// A request without an answer.
    pub async fn request(&self, kind: RequestKind) -> Result<(), Disconnected> {
        self.send(kind, None).await
    }

    /// A request with an answer: whether it succeeded. Fails also while the peer leaves too many unanswered.
    pub async fn request_reply(&self, kind: RequestKind) -> Result<bool, Disconnected> {
        let (reply, answer) = oneshot::channel();
        self.send(kind, Some(reply)).await?;
        answer.await.map_err(|_| Disconnected)
    }

    async fn send(
        &self,
        kind: RequestKind,
        reply: Option<oneshot::Sender<bool>>,
    ) -> Result<(), Disconnected> {
        let permit = self.handle.out().request_permit().await?;
        let mut state = lock(&self.handle.channel.state);
        if !state.is_open() || (reply.is_some() && state.awaiting.len() >= self.handle.limits().requests) {
            return Err(Disconnected);
        }
        let (recipient, want_reply) = (state.output.remote, reply.is_some());
        state.awaiting.extend(reply);
        self.handle.out().push_request(Message::Request { recipient, want_reply, kind }.encode(), permit);
        Ok(())
    }

    /// The program has exited.
    pub async fn exit_status(&self, status: u32) -> Result<(), Disconnected> {
        self.request(RequestKind::ExitStatus { status }).await
    }

    /// The program was killed by the signal `name` (without `SIG`).
    pub async fn exit_signal(
        &self,
        name: &str,
        core_dumped: bool,
        message: &str,
    ) -> Result<(), Disconnected> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let (name, message) = (bytes(name), bytes(message));
        self.request(RequestKind::ExitSignal { name, core_dumped, message, language: Bytes::new() }).await
    }

    /// This end reads no more data.
    pub async fn eow(&self) -> Result<(), Disconnected> {
        self.request(RequestKind::Eow).await
    }

    /// Whether the client may do the flow control of the terminal.
    pub async fn xon_xoff(&self, client_can_do: bool) -> Result<(), Disconnected> {
        self.request(RequestKind::XonXoff { client_can_do }).await
    }

    /// Sends EOF now; writers get a broken pipe.
    pub fn eof(&self) {
        self.handle.channel.eof(self.handle.out());
    }

    /// Closes the channel; writers get a broken pipe, and readers what comes until the peer closes it too.
    pub fn close(&self) {
        self.handle.close();
    }

    /// From now on a CLOSE of the peer that follows our EOF is answered only when this end closes. Until then what this
    /// end says still reaches the peer: sshd tells the exit status of a program so that has closed its output before.
    /// The peer's requests end, as with any CLOSE; [`closed`](Self::closed) waits for this end.
    pub fn hold(&self) {
        lock(&self.handle.channel.state).hold = Hold::AfterEof;
    }

    /// Waits for the peer's CLOSE or the end of the connection.
    pub async fn closed(&self) {
        let notified = self.handle.channel.closed.notified();
        if !self.is_closed() {
            notified.await;
        }
    }

    /// Whether the peer has closed the channel or the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.handle.channel.state).gone
    }
}
