//! What all parts of a connection share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Waker,
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    Limits,
    connection::Incoming,
    limits::{Usage, Weight},
    lock,
    opener::GlobalReply,
    ordered::Ordered,
    outbound::Outbound,
    table::Table,
};
use crate::wire::Message;

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) out: Outbound,
    pub(super) limits: Limits,
    pub(super) usage: Arc<Usage>,
    pub(super) table: Mutex<Table>,
    pub(super) globals: Mutex<Globals>,
    pub(super) inbox: Mutex<Inbox>,
    pub(super) ended: Notify,
}

/// Requests that concern the connection, in both directions.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// What this end owes.
    pub(super) answers: Ordered<GlobalReply>,
    /// What the peer owes.
    pub(super) awaiting: VecDeque<oneshot::Sender<GlobalReply>>,
    pub(super) ended: bool,
}

/// What waits for [`Connection::next`](super::Connection::next).
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) waiting: VecDeque<(Incoming, Weight)>,
    /// How many of those are global requests.
    pub(super) globals: usize,
    pub(super) waker: Option<Waker>,
    /// Nobody will ask for more.
    pub(super) closed: bool,
    pub(super) ended: bool,
}

impl Core {
    /// Sends the answers that may leave.
    pub(super) fn flush_globals(&self, globals: &mut Globals) {
        while let Some(answer) = globals.answers.pop() {
            self.out.push_answer(match answer {
                GlobalReply::Success(payload) => Message::RequestSuccess { payload }.encode(),
                GlobalReply::Failure => Message::RequestFailure.encode(),
            });
        }
    }

    /// Answers a global request.
    pub(super) fn answer_global(&self, question: u64, answer: GlobalReply) {
        let mut globals = lock(&self.globals);
        globals.answers.answer(question, answer);
        self.flush_globals(&mut globals);
    }

    /// The connection is over: everybody who waits learns it, and nothing is sent any more.
    pub(super) fn end(&self) {
        self.out.end();
        let entries = lock(&self.table).end();
        for entry in entries {
            entry.end();
        }
        let mut globals = lock(&self.globals);
        globals.ended = true;
        let awaiting = std::mem::take(&mut globals.awaiting);
        drop(globals);
        drop(awaiting);
        let mut inbox = lock(&self.inbox);
        inbox.ended = true;
        let (waiting, waker) = (std::mem::take(&mut inbox.waiting), inbox.waker.take());
        drop(inbox);
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
        self.ended.notify_waiters();
    }

    /// Until `end`.
    pub(super) async fn closed(&self) {
        let notified = self.ended.notified();
        if !lock(&self.inbox).ended {
            notified.await;
        }
    }
}

/// Held by everybody outside the driver; without any, there's nobody to drive for.
#[derive(Debug)]
pub(super) struct Link(pub(super) Arc<Core>);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.out.finish();
    }
}

/// Sends `packet` as an answer that the peer asked for.
pub(super) fn refuse(core: &Core, recipient: u32, reason: crate::wire::OpenReason, text: &str) {
    let description = Bytes::copy_from_slice(text.as_bytes());
    let failure = Message::OpenFailure { recipient, reason, description, language: Bytes::new() };
    core.out.push_answer(failure.encode());
}
