//! The task that takes what the peer sends.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Channel, OpenFailure,
    channel::{Remote, Shared},
    connection::{GlobalRequest, Incoming, OpenRequest},
    core::{Core, Link, refuse},
    limits::{Side, Weight},
    lock,
    opener::GlobalReply,
    table::Entry,
};
use crate::wire::{ChannelKind, GlobalKind, Malformed, Message, OpenReason, RequestKind};

/// Why a connection was ended by this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// A packet that can't be read.
    #[error("the peer sent a packet that can't be read: {0}")]
    Malformed(#[from] Malformed),
    /// More data than the channel's window has room for.
    #[error("the peer sent more than the window of channel {0} allows")]
    WindowOverrun(u32),
    /// A window of 4 GiB or more.
    #[error("the peer made the window of channel {0} larger than windows can be")]
    WindowOverflow(u32),
    /// More of something than anybody needs.
    #[error("the peer sent too many {0} without waiting for answers")]
    Flood(&'static str),
}

/// Moves the packets of a connection. The connection ends with it.
#[derive(Debug)]
pub struct Driver {
    incoming: mpsc::Receiver<Bytes>,
    /// Weak, because a connection that nobody uses is over.
    link: Weak<Link>,
    core: EndOnDrop,
}

#[derive(Debug)]
struct EndOnDrop(Arc<Core>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Driver {
    pub(super) fn new(core: Arc<Core>, incoming: mpsc::Receiver<Bytes>, link: Weak<Link>) -> Self {
        Self { incoming, link, core: EndOnDrop(core) }
    }

    /// Runs until the transport has ended, until nobody uses the connection any more, or until the peer does
    /// something that no peer may do.
    pub async fn run(self) -> Result<(), ConnectionError> {
        let Self { mut incoming, link, core } = self;
        let inbound = Inbound { core: &core.0, link };
        let take = async {
            while let Some(packet) = incoming.recv().await {
                inbound.packet(packet)?;
            }
            Ok(())
        };
        // Neither goes first: both are bounded by the same budget of the runtime, and one that always comes second
        // could starve.
        tokio::select! {
            result = take => result,
            () = core.0.out.pump() => Ok(()),
            () = core.0.closed() => Ok(()),
        }
    }
}

/// Puts each packet where it belongs, without ever waiting.
///
/// Messages for a channel that isn't there are ignored: nobody can be told, and some clients send one after CLOSE.
struct Inbound<'a> {
    core: &'a Core,
    link: Weak<Link>,
}

impl Inbound<'_> {
    fn packet(&self, packet: Bytes) -> Result<(), ConnectionError> {
        let size = packet.len();
        match Message::parse(packet)? {
            Message::Data { recipient, data } => self.data(recipient, None, data),
            Message::ExtendedData { recipient, code, data } => self.data(recipient, Some(code), data),
            Message::WindowAdjust { recipient, bytes } => {
                self.channel(recipient).map_or(Ok(()), |channel| channel.on_adjust(bytes))
            }
            Message::GlobalRequest { want_reply, kind } => self.global(kind, want_reply, size),
            Message::Open { sender: number, window, max_packet, kind } => {
                self.open(kind, Remote { number, window, max_packet }, size)
            }
            Message::OpenConfirmation { recipient, sender: number, window, max_packet, .. } => {
                self.confirmed(recipient, Remote { number, window, max_packet });
                Ok(())
            }
            Message::OpenFailure { recipient, reason, description, .. } => {
                let text = String::from_utf8_lossy(&description).into_owned();
                self.refused(recipient, OpenFailure::Refused { reason, text });
                Ok(())
            }
            Message::Request { recipient, want_reply, kind } => {
                self.request(recipient, kind, want_reply, size)
            }
            Message::Close { recipient } => self.close(recipient),
            other => {
                self.without_answer(other);
                Ok(())
            }
        }
    }

    /// What can't fail.
    fn without_answer(&self, message: Message) {
        match message {
            Message::Eof { recipient } => {
                if let Some(channel) = self.channel(recipient) {
                    channel.on_eof();
                }
            }
            Message::Success { recipient } => self.replied(recipient, true),
            Message::Failure { recipient } => self.replied(recipient, false),
            Message::RequestSuccess { payload } => self.global_replied(GlobalReply::Success(payload)),
            Message::RequestFailure => self.global_replied(GlobalReply::Failure),
            _ => {}
        }
    }

    fn channel(&self, number: u32) -> Option<Arc<Shared>> {
        lock(&self.core.table).open(number)
    }

    fn data(&self, number: u32, code: Option<u32>, data: Bytes) -> Result<(), ConnectionError> {
        match self.channel(number) {
            Some(channel) => channel.on_data(code, data, &self.core.out),
            None => Ok(()),
        }
    }

    fn request(
        &self,
        number: u32,
        kind: RequestKind,
        want_reply: bool,
        size: usize,
    ) -> Result<(), ConnectionError> {
        self.check_answers()?;
        match self.channel(number) {
            Some(channel) => channel.on_request(kind, want_reply, self.weight(size)?, self.core),
            None => Ok(()),
        }
    }

    fn replied(&self, number: u32, success: bool) {
        if let Some(channel) = self.channel(number) {
            channel.on_reply(success);
        }
    }

    fn close(&self, number: u32) -> Result<(), ConnectionError> {
        self.check_answers()?;
        let mut table = lock(&self.core.table);
        let Some(channel) = table.open(number) else { return Ok(()) };
        if channel.holds_close() {
            return Ok(());
        }
        let entry = table.remove(number);
        drop(table);
        channel.on_close(&self.core.out);
        drop(entry);
        Ok(())
    }

    fn open(&self, kind: ChannelKind, remote: Remote, size: usize) -> Result<(), ConnectionError> {
        self.check_answers()?;
        let (Some(charge), Some(link)) =
            (self.core.usage.channel(Side::Peer, &self.core.limits), self.link.upgrade())
        else {
            refuse(self.core, remote.number, OpenReason::ResourceShortage, "too many channels are open");
            return Ok(());
        };
        let weight = self.weight(size)?;
        self.deliver(Incoming::Open(OpenRequest::new(kind, remote, charge, link)), weight);
        Ok(())
    }

    fn confirmed(&self, number: u32, remote: Remote) {
        let mut table = lock(&self.core.table);
        let Some(opening) = table.take_opening(number) else { return };
        let channel = Arc::new(Shared::new(number, remote, opening.charge, &self.core.limits));
        table.set(number, Entry::Open(Arc::clone(&channel)));
        drop(table);
        if let Some(link) = self.link.upgrade() {
            // Whoever wanted it may have gone: then the last part is dropped here, which closes it.
            let _ = opening.reply.send(Ok(Channel::new(channel, link)));
        }
    }

    fn refused(&self, number: u32, failure: OpenFailure) {
        let mut table = lock(&self.core.table);
        let Some(opening) = table.take_opening(number) else { return };
        table.remove(number);
        drop(table);
        let _ = opening.reply.send(Err(failure));
    }

    fn global(&self, kind: GlobalKind, want_reply: bool, size: usize) -> Result<(), ConnectionError> {
        self.check_answers()?;
        let weight = self.weight(size)?;
        let waiting = lock(&self.core.inbox).globals;
        let mut globals = lock(&self.core.globals);
        if waiting.max(globals.answers.len()) >= self.core.limits.global_requests {
            return Err(ConnectionError::Flood("requests"));
        }
        let question = want_reply.then(|| globals.answers.ask());
        drop(globals);
        match self.link.upgrade() {
            // To a keepalive any answer is good, and OpenSSH gives this one.
            Some(link) if kind != GlobalKind::Keepalive => {
                self.deliver(Incoming::Global(GlobalRequest::new(kind, question, link)), weight);
            }
            _ => question.into_iter().for_each(|q| self.core.answer_global(q, GlobalReply::Failure)),
        }
        Ok(())
    }

    fn global_replied(&self, reply: GlobalReply) {
        let waiting = lock(&self.core.globals).awaiting.pop_front();
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply);
        }
    }

    fn deliver(&self, incoming: Incoming, weight: Weight) {
        let mut inbox = lock(&self.core.inbox);
        if inbox.closed || inbox.ended {
            drop(inbox);
            // Which refuses it.
            drop(incoming);
            return;
        }
        inbox.globals += usize::from(matches!(incoming, Incoming::Global(_)));
        inbox.waiting.push_back((incoming, weight));
        let waker = inbox.waker.take();
        drop(inbox);
        waker.into_iter().for_each(std::task::Waker::wake);
    }

    fn weight(&self, size: usize) -> Result<Weight, ConnectionError> {
        let weight = self.core.usage.waiting(size, &self.core.limits);
        weight.ok_or(ConnectionError::Flood("bytes of requests"))
    }

    fn check_answers(&self) -> Result<(), ConnectionError> {
        if self.core.out.answers() > self.core.limits.answers {
            return Err(ConnectionError::Flood("requests, and takes no answers,"));
        }
        Ok(())
    }
}
