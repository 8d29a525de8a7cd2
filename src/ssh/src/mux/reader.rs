//! Data from the peer.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    channel::{Handle, State},
    chunks::Chunks,
    lock,
    outbound::{Outbound, register},
    writer::Output,
};
use crate::wire::Message;

/// Extended data that RFC 4254 knows: of standard error.
pub(super) const STDERR: u32 = 1;

/// What came and isn't read, and how much more may come.
///
/// `credit`, `used` and the bytes in the streams are `window` together.
#[derive(Debug)]
pub(super) struct Input {
    window: u32,
    /// What the peer may send.
    credit: u32,
    /// What was read and the peer doesn't know of.
    used: u32,
    streams: [Stream; 2],
    ended: bool,
}

#[derive(Debug, Default)]
struct Stream {
    chunks: Chunks,
    waker: Option<Waker>,
    /// Nobody reads it.
    unread: bool,
}

impl Input {
    pub(super) fn new(window: u32) -> Self {
        Self { window, credit: window, used: 0, streams: Default::default(), ended: false }
    }

    /// Takes data, and tells who waits for it; None if it is more than the window has room for.
    pub(super) fn receive(&mut self, code: Option<u32>, data: Bytes) -> Option<Option<Waker>> {
        let length = u32::try_from(data.len()).ok()?;
        self.credit = self.credit.checked_sub(length)?;
        let stream = match code {
            None => &mut self.streams[0],
            Some(STDERR) => &mut self.streams[1],
            Some(_) => {
                self.used += length;
                return Some(None);
            }
        };
        if stream.unread || self.ended {
            self.used += length;
            return Some(None);
        }
        stream.chunks.push(data);
        Some(stream.waker.take())
    }

    /// No more will come.
    pub(super) fn end(&mut self) -> Vec<Waker> {
        self.ended = true;
        self.streams.iter_mut().filter_map(|stream| stream.waker.take()).collect()
    }

    /// Gives the peer its window back once that is worth a packet.
    pub(super) fn give_back(&mut self, output: &Output, out: &Outbound) {
        let worth = self.used > 0 && self.used >= self.window / 2;
        if !worth || self.ended || output.closed {
            return;
        }
        self.credit += self.used;
        out.push(Message::WindowAdjust { recipient: output.remote, bytes: self.used }.encode());
        self.used = 0;
    }

    fn consumed(&mut self, bytes: usize) {
        self.used += u32::try_from(bytes).unwrap_or(u32::MAX);
    }
}

/// Data of a channel. Reads end with the peer's EOF or CLOSE or with the connection. If it is dropped, what comes is
/// discarded and the peer may go on sending.
#[derive(Debug)]
pub struct ChannelReader {
    handle: Arc<Handle>,
    stream: usize,
}

impl ChannelReader {
    pub(super) fn data(handle: Arc<Handle>) -> Self {
        Self { handle, stream: 0 }
    }

    pub(super) fn stderr(handle: Arc<Handle>) -> Self {
        Self { handle, stream: 1 }
    }

    /// The next piece of data, as it came; None at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The poll of [`next`](Self::next).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_take(context, |chunks| {
            let data = chunks.pop();
            (data.as_ref().map_or(0, Bytes::len), data)
        })
    }

    /// What `take` makes of the data that is there, with the number of bytes that it took.
    fn poll_take<T: Default>(
        &mut self,
        context: &Context<'_>,
        take: impl FnOnce(&mut Chunks) -> (usize, T),
    ) -> Poll<T> {
        let mut state = lock(&self.handle.channel.state);
        let State { input, output, .. } = &mut *state;
        let stream = &mut input.streams[self.stream];
        if stream.chunks.is_empty() {
            if input.ended {
                return Poll::Ready(T::default());
            }
            register(&mut stream.waker, context);
            return Poll::Pending;
        }
        let (length, taken) = take(&mut stream.chunks);
        input.consumed(length);
        input.give_back(output, self.handle.out());
        Poll::Ready(taken)
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.get_mut().poll_take(context, |chunks| (chunks.read(buffer), ())).map(Ok)
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        let mut state = lock(&self.handle.channel.state);
        let State { input, output, .. } = &mut *state;
        let stream = &mut input.streams[self.stream];
        stream.unread = true;
        let (discarded, waker) = (stream.chunks.clear(), stream.waker.take());
        input.consumed(discarded);
        input.give_back(output, self.handle.out());
        drop(state);
        drop(waker);
    }
}
