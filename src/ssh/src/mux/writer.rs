//! Data to the peer.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, MutexGuard},
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    Limits, PacketBuf,
    channel::{Handle, Remote, State},
    lock,
    outbound::Slot,
    packet::Stream,
    reader::STDERR,
};

/// How much may be sent, and who sends it.
#[derive(Debug)]
pub(super) struct Output {
    /// The number that the peer gave the channel.
    pub(super) remote: u32,
    pub(super) window: u32,
    max_packet: u32,
    /// All that are not shut down.
    pub(super) writers: Vec<Arc<Slot>>,
    /// EOF is sent.
    pub(super) eof: bool,
    /// CLOSE is sent.
    pub(super) closed: bool,
}

impl Output {
    pub(super) fn new(remote: Remote, limits: &Limits) -> Self {
        Self {
            remote: remote.number,
            window: remote.window,
            max_packet: remote.max_packet.min(limits.max_packet),
            writers: Vec::with_capacity(1),
            eof: false,
            closed: false,
        }
    }

    /// Nothing more is sent; whether that is news.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    fn room(&self) -> usize {
        self.window.min(self.max_packet) as usize
    }
}

/// Data to the peer. A write waits for the peer's window and for the line to the transport, and makes one packet.
/// What was accepted leaves in order, before everything that is sent on the channel afterwards.
///
/// EOF is sent once all writers of a channel (see [`extended`](Self::extended)) are shut down or dropped.
#[derive(Debug)]
pub struct ChannelWriter {
    handle: Arc<Handle>,
    slot: Arc<Slot>,
    stream: Stream,
}

impl ChannelWriter {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self::of_stream(handle, Stream::Data)
    }

    fn of_stream(handle: Arc<Handle>, stream: Stream) -> Self {
        let slot = Arc::new(Slot::default());
        lock(&handle.channel.state).output.writers.push(Arc::clone(&slot));
        Self { handle, slot, stream }
    }

    /// One more writer, for standard error.
    #[must_use]
    pub fn extended(&self) -> Self {
        Self::of_stream(Arc::clone(&self.handle), Stream::Extended(STDERR))
    }

    /// Waits until a packet may be sent, and tells how much data it may have. Nothing is held for the caller.
    pub async fn room(&mut self) -> io::Result<usize> {
        poll_fn(|context| Poll::Ready(Ok(ready!(self.poll_room(context))?.output.room()))).await
    }

    /// Sends a packet without copying it, if there is room for all of it; else gives it back. An empty one is dropped.
    pub fn send(&mut self, packet: PacketBuf) -> Result<(), PacketBuf> {
        let mut state = lock(&self.handle.channel.state);
        let fits = packet.len() <= state.output.room();
        if !fits || !self.can_write(&state) || !self.handle.out().has_room(&self.slot) {
            return Err(packet);
        }
        if !packet.is_empty() {
            self.push(&mut state, packet);
        }
        Ok(())
    }

    /// Sends all of a packet, waiting as often as needed; only what didn't fit at once is copied. If this is dropped
    /// before it is done, the rest of the data is lost.
    pub async fn send_all(&mut self, mut packet: PacketBuf) -> io::Result<()> {
        while !packet.is_empty() {
            let room = self.room().await?;
            let rest = (packet.len() > room).then(|| packet.split_off(room));
            packet = match (self.send(packet), rest) {
                (Ok(()), None) => return Ok(()),
                (Ok(()), Some(rest)) => rest,
                (Err(unsent), None) => unsent,
                (Err(mut unsent), Some(rest)) => {
                    unsent.join(&rest);
                    unsent
                }
            };
        }
        Ok(())
    }

    fn can_write(&self, state: &State) -> bool {
        state.is_open()
            && !state.output.eof
            && state.output.writers.iter().any(|w| Arc::ptr_eq(w, &self.slot))
    }

    /// Ready with the channel locked, so that what there is room for now can be sent.
    fn poll_room(&self, context: &Context<'_>) -> Poll<io::Result<MutexGuard<'_, State>>> {
        let state = lock(&self.handle.channel.state);
        if !self.can_write(&state) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.handle.out().poll_room(&self.slot, context));
        if state.output.room() == 0 {
            self.slot.register(context);
            return Poll::Pending;
        }
        Poll::Ready(Ok(state))
    }

    fn push(&self, state: &mut State, packet: PacketBuf) {
        // No more than `room`, which is a u32.
        state.output.window -= u32::try_from(packet.len()).unwrap_or(state.output.window);
        self.handle.out().push_data(packet.finish(state.output.remote, self.stream), &self.slot);
    }

    fn finish(&self) {
        let mut state = lock(&self.handle.channel.state);
        let before = state.output.writers.len();
        state.output.writers.retain(|writer| !Arc::ptr_eq(writer, &self.slot));
        if before > 0 && state.output.writers.is_empty() {
            state.send_eof(self.handle.out());
        }
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = ready!(self.poll_room(context))?;
        let length = data.len().min(state.output.room());
        self.push(&mut state, PacketBuf::from(&data[..length]));
        Poll::Ready(Ok(length))
    }

    /// Everything accepted is already in the line.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.finish();
    }
}
