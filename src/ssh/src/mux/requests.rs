//! What the peer asks of a channel.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
};

use super::{
    channel::{Handle, Hold, State},
    limits::Weight,
    lock,
    ordered::Ordered,
    outbound::register,
};
use crate::wire::RequestKind;

/// The requests that wait for the consumer or for its answer.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: VecDeque<Question>,
    pub(super) answers: Ordered<bool>,
    pub(super) waker: Option<Waker>,
    /// Nobody takes them.
    unread: bool,
}

#[derive(Debug)]
struct Question {
    kind: RequestKind,
    /// The number of the wanted answer.
    answer: Option<u64>,
    _weight: Weight,
}

impl Asked {
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.waiting.len() >= limit || self.answers.len() >= limit
    }

    /// Takes a request, and tells who waits for it.
    pub(super) fn receive(&mut self, kind: RequestKind, want_reply: bool, weight: Weight) -> Option<Waker> {
        let answer = want_reply.then(|| self.answers.ask());
        if self.unread || kind == RequestKind::Keepalive {
            // To a keepalive any answer is good, and OpenSSH gives this one.
            self.refuse(answer);
            return None;
        }
        self.waiting.push_back(Question { kind, answer, _weight: weight });
        self.waker.take()
    }

    fn refuse(&mut self, answer: Option<u64>) {
        if let Some(question) = answer {
            self.answers.answer(question, false);
        }
    }
}

/// Requests of the peer, in their order. If this is dropped, all further ones fail.
#[derive(Debug)]
pub struct Requests {
    handle: Arc<Handle>,
}

impl Requests {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// The next request; None once the peer has closed the channel or the connection has ended.
    pub async fn next(&mut self) -> Option<ChannelRequest> {
        poll_fn(|context| {
            let mut state = lock(&self.handle.channel.state);
            let Some(question) = state.asked.waiting.pop_front() else {
                if state.gone || state.hold == Hold::Held {
                    return Poll::Ready(None);
                }
                register(&mut state.asked.waker, context);
                return Poll::Pending;
            };
            drop(state);
            let want_reply = question.answer.is_some();
            let answer = Answer { handle: Arc::clone(&self.handle), question: question.answer };
            Poll::Ready(Some(ChannelRequest { kind: question.kind, want_reply, answer }))
        })
        .await
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let mut state = lock(&self.handle.channel.state);
        let State { asked, .. } = &mut *state;
        asked.unread = true;
        let waker = asked.waker.take();
        for question in std::mem::take(&mut asked.waiting) {
            asked.refuse(question.answer);
        }
        state.flush_answers(self.handle.out());
        drop(state);
        drop(waker);
    }
}

/// A request of the peer.
#[derive(Debug)]
pub struct ChannelRequest {
    /// What is asked.
    pub kind: RequestKind,
    /// Whether the peer wants an answer.
    pub want_reply: bool,
    answer: Answer,
}

impl ChannelRequest {
    /// Answers, if an answer is wanted.
    pub fn reply(self, success: bool) {
        self.answer.send(success);
    }

    /// The request and the answer apart.
    #[must_use]
    pub fn split(self) -> (RequestKind, Answer) {
        (self.kind, self.answer)
    }
}

/// The answer to a request. It leaves after those to earlier requests of the channel. If it is dropped, the request
/// fails.
#[derive(Debug)]
pub struct Answer {
    handle: Arc<Handle>,
    question: Option<u64>,
}

impl Answer {
    /// Answers, if an answer is wanted.
    pub fn send(mut self, success: bool) {
        self.put(success);
    }

    fn put(&mut self, success: bool) {
        let Some(question) = self.question.take() else { return };
        let mut state = lock(&self.handle.channel.state);
        state.asked.answers.answer(question, success);
        state.flush_answers(self.handle.out());
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.put(false);
    }
}
