//! The state of a channel, and the messages that concern all of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Waker,
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    ConnectionError,
    core::{Core, Link},
    limits::{Charge, Limits, Weight},
    lock,
    outbound::Outbound,
    reader::Input,
    requests::Asked,
    writer::Output,
};
use crate::wire::{Message, RequestKind};

/// A channel, as the driver and its parts see it.
#[derive(Debug)]
pub(super) struct Shared {
    /// The number that this end gave it.
    pub(super) local: u32,
    pub(super) state: Mutex<State>,
    pub(super) closed: Notify,
    _charge: Charge,
}

/// What a channel is at the moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) asked: Asked,
    /// Requests of this end's own that the peer has not answered.
    pub(super) awaiting: VecDeque<oneshot::Sender<bool>>,
    /// Nothing more will come: the peer has closed the channel, or the connection has ended.
    pub(super) gone: bool,
    /// What becomes of a CLOSE of the peer.
    pub(super) hold: Hold,
}

/// What becomes of a CLOSE of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is answered at once.
    Never,
    /// If it follows our EOF, it is answered when this end closes.
    AfterEof,
    /// It came, and is not answered yet.
    Held,
}

/// What the peer said of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) number: u32,
    pub(super) window: u32,
    pub(super) max_packet: u32,
}

impl Shared {
    pub(super) fn new(local: u32, remote: Remote, charge: Charge, limits: &Limits) -> Self {
        let state = State {
            input: Input::new(charge.window),
            output: Output::new(remote, limits),
            asked: Asked::default(),
            awaiting: VecDeque::new(),
            gone: false,
            hold: Hold::Never,
        };
        Self { local, state: Mutex::new(state), closed: Notify::new(), _charge: charge }
    }

    /// The peer sent data; `code` is None for the main stream.
    pub(super) fn on_data(
        &self,
        code: Option<u32>,
        data: Bytes,
        out: &Outbound,
    ) -> Result<(), ConnectionError> {
        let mut state = lock(&self.state);
        let State { input, output, .. } = &mut *state;
        let waker = input.receive(code, data).ok_or(ConnectionError::WindowOverrun(self.local))?;
        input.give_back(output, out);
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The peer takes more data.
    pub(super) fn on_adjust(&self, bytes: u32) -> Result<(), ConnectionError> {
        let mut state = lock(&self.state);
        let window = state.output.window.checked_add(bytes);
        state.output.window = window.ok_or(ConnectionError::WindowOverflow(self.local))?;
        let writers = state.output.writers.clone();
        drop(state);
        for writer in writers {
            writer.wake();
        }
        Ok(())
    }

    /// The peer sends no more data.
    pub(super) fn on_eof(&self) {
        let wakers = lock(&self.state).input.end();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether a CLOSE of the peer stays without an answer for now. The peer sends nothing more, and its number and ours
    /// are in use until this end closes.
    pub(super) fn holds_close(&self) -> bool {
        let mut state = lock(&self.state);
        match state.hold {
            Hold::AfterEof if state.is_open() && state.output.eof => {}
            hold => return hold == Hold::Held,
        }
        state.hold = Hold::Held;
        let mut wakers = state.input.end();
        wakers.extend(state.asked.waker.take());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// The peer closed the channel: so does this end, and both ends may use its numbers again (RFC 4254, 5.3).
    pub(super) fn on_close(&self, out: &Outbound) {
        let mut state = lock(&self.state);
        if state.output.close() {
            out.push_answer(Message::Close { recipient: state.output.remote }.encode());
        }
        drop(state);
        self.end();
    }

    /// Nothing more will come: whoever waits for it learns so.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.gone = true;
        let mut wakers = state.input.end();
        wakers.extend(state.asked.waker.take());
        let awaiting = std::mem::take(&mut state.awaiting);
        let writers = state.output.writers.clone();
        drop(state);
        drop(awaiting);
        wakers.into_iter().for_each(Waker::wake);
        for writer in writers {
            writer.wake();
        }
        self.closed.notify_waiters();
    }

    /// The peer asks something.
    pub(super) fn on_request(
        &self,
        kind: RequestKind,
        want_reply: bool,
        weight: Weight,
        core: &Core,
    ) -> Result<(), ConnectionError> {
        let mut state = lock(&self.state);
        if state.hold == Hold::Held {
            return Ok(());
        }
        if state.asked.is_full(core.limits.requests) {
            return Err(ConnectionError::Flood("requests of a channel"));
        }
        let waker = state.asked.receive(kind, want_reply, weight);
        state.flush_answers(&core.out);
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The peer answers a request of this end's own.
    pub(super) fn on_reply(&self, success: bool) {
        let waiting = lock(&self.state).awaiting.pop_front();
        if let Some(waiting) = waiting {
            // Whoever asked may have gone.
            let _ = waiting.send(success);
        }
    }

    /// Sends CLOSE, once. Says whether it answers one of the peer, so that the channel is over.
    fn close(&self, out: &Outbound) -> bool {
        let mut state = lock(&self.state);
        let is_news = state.output.close() && !state.gone;
        if is_news {
            out.push(Message::Close { recipient: state.output.remote }.encode());
        }
        let is_over = is_news && state.hold == Hold::Held;
        let writers = state.output.writers.clone();
        drop(state);
        for writer in writers {
            writer.wake();
        }
        is_over
    }

    /// Sends EOF, once.
    pub(super) fn eof(&self, out: &Outbound) {
        let mut state = lock(&self.state);
        state.send_eof(out);
        let writers = state.output.writers.clone();
        drop(state);
        for writer in writers {
            writer.wake();
        }
    }
}

impl State {
    /// Whether this end can still send.
    pub(super) fn is_open(&self) -> bool {
        !self.output.closed && !self.gone
    }

    pub(super) fn send_eof(&mut self, out: &Outbound) {
        if self.is_open() && !self.output.eof {
            out.push(Message::Eof { recipient: self.output.remote }.encode());
        }
        self.output.eof = true;
    }

    /// Sends the answers that may leave.
    pub(super) fn flush_answers(&mut self, out: &Outbound) {
        while let Some(success) = self.asked.answers.pop() {
            if !self.is_open() {
                continue;
            }
            let recipient = self.output.remote;
            out.push_answer(match success {
                true => Message::Success { recipient }.encode(),
                false => Message::Failure { recipient }.encode(),
            });
        }
    }
}

/// What each part of a channel holds; the last one closes the channel.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) channel: Arc<Shared>,
    link: Arc<Link>,
}

impl Handle {
    pub(super) fn new(channel: Arc<Shared>, link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { channel, link })
    }

    pub(super) fn out(&self) -> &Outbound {
        &self.link.0.out
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.link.0.limits
    }

    /// Sends CLOSE, once.
    pub(super) fn close(&self) {
        if self.channel.close(self.out()) {
            let entry = lock(&self.link.0.table).remove(self.channel.local);
            drop(entry);
            self.channel.end();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
