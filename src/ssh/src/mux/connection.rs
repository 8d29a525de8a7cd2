//! A connection, as its user sees it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    Channel, Driver, Limits, Opener,
    channel::{Remote, Shared},
    core::{Core, Globals, Inbox, Link, refuse},
    limits::{Charge, Usage},
    lock,
    opener::GlobalReply,
    outbound::{Outbound, register},
    table::{Entry, Table},
};
use crate::{
    Packets,
    wire::{ChannelKind, GlobalKind, Message, OpenReason},
};

/// What the peer asks of a connection. If this is dropped, everything further is refused.
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
}

impl Connection {
    /// One end of a connection over `packets`. Nothing happens unless the driver runs.
    #[must_use]
    pub fn start(packets: Packets, limits: Limits) -> (Self, Opener, Driver) {
        let core = Arc::new(Core {
            out: Outbound::new(packets.outgoing, limits.packets),
            limits,
            usage: Arc::new(Usage::default()),
            table: Mutex::new(Table::default()),
            globals: Mutex::new(Globals::default()),
            inbox: Mutex::new(Inbox::default()),
            ended: Notify::new(),
        });
        let link = Arc::new(Link(Arc::clone(&core)));
        let driver = Driver::new(core, packets.incoming, Arc::downgrade(&link));
        (Self { link: Arc::clone(&link) }, Opener::new(link), driver)
    }

    /// The next thing that the peer asks; None once the connection has ended.
    pub async fn next(&mut self) -> Option<Incoming> {
        poll_fn(|context| {
            let mut inbox = lock(&self.link.0.inbox);
            if let Some((incoming, weight)) = inbox.waiting.pop_front() {
                inbox.globals -= usize::from(matches!(incoming, Incoming::Global(_)));
                drop(inbox);
                drop(weight);
                return Poll::Ready(Some(incoming));
            }
            if inbox.ended {
                return Poll::Ready(None);
            }
            register(&mut inbox.waker, context);
            Poll::Pending
        })
        .await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut inbox = lock(&self.link.0.inbox);
        inbox.closed = true;
        inbox.globals = 0;
        let (waiting, waker) = (std::mem::take(&mut inbox.waiting), inbox.waker.take());
        drop(inbox);
        drop((waiting, waker));
    }
}

/// Something that the peer asks of the connection.
#[derive(Debug)]
pub enum Incoming {
    /// A channel.
    Open(OpenRequest),
    /// Anything else.
    Global(GlobalRequest),
}

/// A channel that the peer wants to open.
#[derive(Debug)]
pub struct OpenRequest {
    /// What for.
    pub kind: ChannelKind,
    offer: Offer,
}

impl OpenRequest {
    pub(super) fn new(kind: ChannelKind, remote: Remote, charge: Charge, link: Arc<Link>) -> Self {
        let refusal = Refusal { recipient: remote.number, settled: false, link };
        Self { kind, offer: Offer { remote, charge, refusal } }
    }

    /// Opens it.
    #[must_use]
    pub fn accept(self) -> Channel {
        self.offer.accept()
    }

    /// Refuses it.
    pub fn reject(self, reason: OpenReason, text: &str) {
        self.offer.reject(reason, text);
    }

    /// What the channel is for, and the answer, apart.
    #[must_use]
    pub fn split(self) -> (ChannelKind, Offer) {
        (self.kind, self.offer)
    }
}

/// The answer to an [`OpenRequest`]. If it is dropped, the channel is refused.
#[derive(Debug)]
pub struct Offer {
    remote: Remote,
    charge: Charge,
    refusal: Refusal,
}

impl Offer {
    /// Opens the channel.
    #[must_use]
    pub fn accept(self) -> Channel {
        let Self { remote, charge, mut refusal } = self;
        refusal.settled = true;
        let link = Arc::clone(&refusal.link);
        let core = &link.0;
        let (window, max_packet) = (charge.window, core.limits.max_packet);
        let mut table = lock(&core.table);
        let number = table.vacant();
        let channel = Arc::new(Shared::new(number.unwrap_or_default(), remote, charge, &core.limits));
        let Some(sender) = number else {
            drop(table);
            channel.end();
            return Channel::new(channel, link);
        };
        table.set(sender, Entry::Open(Arc::clone(&channel)));
        drop(table);
        let payload = Bytes::new();
        let recipient = remote.number;
        let confirmation = Message::OpenConfirmation { recipient, sender, window, max_packet, payload };
        core.out.push_answer(confirmation.encode());
        Channel::new(channel, link)
    }

    /// Refuses the channel.
    pub fn reject(mut self, reason: OpenReason, text: &str) {
        self.refusal.send(reason, text);
    }
}

/// Refuses unless it is settled.
#[derive(Debug)]
struct Refusal {
    recipient: u32,
    settled: bool,
    link: Arc<Link>,
}

impl Refusal {
    fn send(&mut self, reason: OpenReason, text: &str) {
        if !std::mem::replace(&mut self.settled, true) {
            refuse(&self.link.0, self.recipient, reason, text);
        }
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.send(OpenReason::AdministrativelyProhibited, "not possible here");
    }
}

/// Something that the peer asks of the whole connection.
#[derive(Debug)]
pub struct GlobalRequest {
    /// What is asked.
    pub kind: GlobalKind,
    /// Whether the peer wants an answer.
    pub want_reply: bool,
    answer: GlobalAnswer,
}

impl GlobalRequest {
    pub(super) fn new(kind: GlobalKind, question: Option<u64>, link: Arc<Link>) -> Self {
        Self { kind, want_reply: question.is_some(), answer: GlobalAnswer { question, link } }
    }

    /// Answers, if an answer is wanted. `payload` goes with success only.
    pub fn reply(self, success: bool, payload: Bytes) {
        self.answer.send(success, payload);
    }

    /// The request and the answer apart.
    #[must_use]
    pub fn split(self) -> (GlobalKind, GlobalAnswer) {
        (self.kind, self.answer)
    }
}

/// The answer to a [`GlobalRequest`]. It leaves after those to earlier ones. If it is dropped, the request fails.
#[derive(Debug)]
pub struct GlobalAnswer {
    question: Option<u64>,
    link: Arc<Link>,
}

impl GlobalAnswer {
    /// Answers, if an answer is wanted. `payload` goes with success only.
    pub fn send(mut self, success: bool, payload: Bytes) {
        self.put(if success { GlobalReply::Success(payload) } else { GlobalReply::Failure });
    }

    fn put(&mut self, answer: GlobalReply) {
        if let Some(question) = self.question.take() {
            self.link.0.answer_global(question, answer);
        }
    }
}

impl Drop for GlobalAnswer {
    fn drop(&mut self) {
        self.put(GlobalReply::Failure);
    }
}
