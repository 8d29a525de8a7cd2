//! What this end asks of the connection.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Channel, Disconnected,
    core::Link,
    limits::Side,
    lock,
    table::{Entry, Opening},
};
use crate::wire::{ChannelKind, GlobalKind, Message, OpenReason};

/// The answer to a request that concerns the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GlobalReply {
    /// It is done.
    Success(Bytes),
    /// It is not done.
    Failure,
}

/// Why a channel was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// The peer doesn't want it.
    #[error("the other end refused the channel ({reason:?}): {text:?}")]
    Refused {
        /// Why.
        reason: OpenReason,
        /// Why, for people, as the peer has it.
        text: String,
    },
    /// This end has too many.
    #[error("too many channels are open")]
    TooMany,
    /// The connection has ended.
    #[error("the connection has ended")]
    Disconnected,
}

type Opened = oneshot::Receiver<Result<Channel, OpenFailure>>;

/// Asks the peer for channels and other things.
#[derive(Clone, Debug)]
pub struct Opener {
    link: Arc<Link>,
}

impl Opener {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Opens a channel. If this is dropped meanwhile, the channel is closed once the peer has opened it.
    pub async fn open(&self, kind: ChannelKind) -> Result<Channel, OpenFailure> {
        let opened = self.send_open(kind)?;
        opened.await.unwrap_or(Err(OpenFailure::Disconnected))
    }

    fn send_open(&self, kind: ChannelKind) -> Result<Opened, OpenFailure> {
        let core = &self.link.0;
        let charge = core.usage.channel(Side::Own, &core.limits).ok_or(OpenFailure::TooMany)?;
        let (window, max_packet) = (charge.window, core.limits.max_packet);
        let (reply, opened) = oneshot::channel();
        let mut table = lock(&core.table);
        let sender = table.vacant().ok_or(OpenFailure::Disconnected)?;
        table.set(sender, Entry::Opening(Opening { reply, charge }));
        drop(table);
        core.out.push(Message::Open { sender, window, max_packet, kind }.encode());
        Ok(opened)
    }

    /// Asks something of the connection and waits for the answer. Fails also while the peer leaves too many
    /// unanswered.
    pub async fn global(&self, kind: GlobalKind) -> Result<GlobalReply, Disconnected> {
        let (reply, answer) = oneshot::channel();
        self.send(kind, Some(reply)).await?;
        answer.await.map_err(|_| Disconnected)
    }

    /// Tells the peer something that it doesn't answer.
    pub async fn global_no_reply(&self, kind: GlobalKind) -> Result<(), Disconnected> {
        self.send(kind, None).await
    }

    async fn send(
        &self,
        kind: GlobalKind,
        reply: Option<oneshot::Sender<GlobalReply>>,
    ) -> Result<(), Disconnected> {
        let core = &self.link.0;
        let permit = core.out.request_permit().await?;
        let mut globals = lock(&core.globals);
        let want_reply = reply.is_some();
        if globals.ended || (want_reply && globals.awaiting.len() >= core.limits.global_requests) {
            return Err(Disconnected);
        }
        globals.awaiting.extend(reply);
        core.out.push_request(Message::GlobalRequest { want_reply, kind }.encode(), permit);
        Ok(())
    }

    /// Ends the connection; what is not sent yet never is.
    pub fn disconnect(&self) {
        self.link.0.end();
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) {
        self.link.0.closed().await;
    }
}
