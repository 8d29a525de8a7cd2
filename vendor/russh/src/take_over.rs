//! Sessions whose connection protocol (RFC 4254) is spoken by somebody else.
//!
//! After `Session::take_over`, called from `Handler::auth_succeeded`, russh goes on with the
//! transport (encryption, compression, key re-exchange, extensions) and exchanges whole packets of
//! the connection protocol with its user through two bounded queues.
//!
//! Unlike the loops for russh's own channels this one never waits for one direction while the other
//! could move: a full queue or a full socket holds up its own direction only, and what it holds up
//! is bounded.

use std::future::{Future, poll_fn};
use std::num::Wrapping;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::OptionFuture;
use log::debug;
use ssh_encoding::Encode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::session::CommonSession;
use crate::sshbuffer::{IncomingSshPacket, PacketWriter, SSHBuffer};
use crate::{Disconnect, Error, cipher, msg};

/// No more packets are taken from the queue while this much waits for the socket.
const OUTPUT_LIMIT: usize = 128 * 1024;
/// More packets are taken from the queue once no more than this waits for the socket: what is left
/// of a partial write is moved to the front of the buffer then.
const OUTPUT_REFILL: usize = 32 * 1024;
/// Nothing is read while this much waits for the socket. Only replies of the transport itself get
/// output there: this bounds a peer that asks for them and doesn't read them.
const REPLIES_LIMIT: usize = 4 * OUTPUT_LIMIT;
/// The buffer of a busy socket. It grows to the largest packet if there is a larger one.
const INPUT_BUSY: usize = 128 * 1024;
/// The buffer of an idle socket, enough for a key stroke.
const INPUT_IDLE: usize = 512;
/// Buffers that weren't used for that long are given back.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// How long the rest may take once one side has ended: what is queued, the goodbye, and the peer's.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// What the peer is told when nothing is to be sent any more.
const OTHER_END: &str = "the other end has gone";

/// The session's ends of the two queues.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub received: Sender<Bytes>,
    pub to_send: Receiver<Bytes>,
}

/// How far a key exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kex {
    Idle,
    /// Our KEXINIT is on its way: what the peer sent before it saw that may still arrive.
    Begun,
    /// The peer's KEXINIT has arrived: nothing but the exchange may come from it.
    Exchanging,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer's DISCONNECT.
    Goodbye(IncomingSshPacket),
    /// The peer closed the connection between two packets, as OpenSSH's server does.
    Left,
    /// This side said goodbye.
    Ours,
}

/// What the loop needs of a client's or a server's session.
pub(crate) trait Transport<H>: Send {
    type Config: Send + Sync;
    type Error: From<Error> + Send;

    fn common(&mut self) -> &mut CommonSession<Self::Config>;
    fn kex(&self) -> Kex;
    fn rekey_read_limit(&self) -> usize;
    fn rekey_time_remaining(&self) -> Option<Duration>;
    /// USERAUTH_SUCCESS has been queued: delayed compression begins after it.
    fn activate_delayed_compression(&mut self);
    /// Encrypts what the session has queued, and begins a key exchange when one is due.
    fn encrypt_queued(&mut self) -> Result<(), Error>;
    /// What was asked for through a handle.
    fn poll_handle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    /// A packet of the transport itself.
    fn transport_packet(
        &mut self,
        handler: &mut H,
        packet: &mut IncomingSshPacket,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Runs a session until it ends.
pub(crate) async fn run<T, H, R, W>(
    session: &mut T,
    handler: &mut H,
    ends: TakenOver,
    input: R,
    read: SSHBuffer,
    output: &mut W,
) -> Result<End, T::Error>
where
    T: Transport<H>,
    H: Send,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    session.encrypt_queued()?;
    session.activate_delayed_compression();
    let mut link = Link {
        input: Input::new(input, read),
        output: Output::new(output),
        queues: Queues::new(ends),
        timers: Timers::default(),
    };
    link.timers.rekey_at = rekey_at(session);
    let end = link.exchange(session, handler).await?;
    if matches!(end, End::Ours) {
        link.close(&mut session.common().packet_writer).await;
    }
    Ok(end)
}

fn rekey_at<T: Transport<H>, H>(session: &T) -> Option<Instant> {
    Instant::now().checked_add(session.rekey_time_remaining()?)
}

/// A connection between a socket and two queues.
struct Link<'w, R, W> {
    input: Input<R>,
    output: Output<'w, W>,
    queues: Queues,
    timers: Timers,
}

impl<R, W> Link<'_, R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    async fn exchange<T: Transport<H>, H: Send>(
        &mut self,
        session: &mut T,
        handler: &mut H,
    ) -> Result<End, T::Error> {
        loop {
            if let Some(goodbye) = self.take_in(session, handler).await? {
                return Ok(End::Goodbye(goodbye));
            }
            if session.kex() == Kex::Idle && self.input.bytes >= session.rekey_read_limit() {
                self.input.bytes = 0;
                if let Some(enc) = session.common().encrypted.as_mut() {
                    enc.rekey_wanted = true;
                }
            }
            session.encrypt_queued()?;
            if self.queues.ended && session.kex() == Kex::Idle {
                session.common().disconnect(Disconnect::ByApplication, OTHER_END, "")?;
            }
            if session.common().disconnected {
                // No key exchange holds up the goodbye.
                session.encrypt_queued()?;
                return Ok(End::Ours);
            }
            if let Some(end) = self.step(session).await? {
                return Ok(end);
            }
        }
    }

    /// Works off the packets that have arrived, until one of them has to wait.
    async fn take_in<T: Transport<H>, H: Send>(
        &mut self,
        session: &mut T,
        handler: &mut H,
    ) -> Result<Option<IncomingSshPacket>, T::Error> {
        while self.queues.held.is_none() && self.output.owed(session.common()) <= REPLIES_LIMIT {
            let Some(payload) = self.input.next(session.common())? else {
                break;
            };
            match payload.first() {
                None => {}
                Some(&msg::DISCONNECT) => return Ok(Some(self.input.packet(payload))),
                Some(&number) if number < msg::GLOBAL_REQUEST => {
                    self.transport_packet(session, handler, payload).await?;
                }
                // RFC 4253 s7.1: nothing may follow the peer's own KEXINIT.
                Some(_) if session.kex() == Kex::Exchanging => {
                    return Err(Error::Inconsistent.into());
                }
                Some(&msg::PING) => pong(session.common(), &payload)?,
                Some(&msg::PONG) => {}
                Some(_) => {
                    if self.queues.deliver(payload).is_err() {
                        self.begin_closing();
                    }
                }
            }
        }
        Ok(None)
    }

    async fn transport_packet<T: Transport<H>, H: Send>(
        &mut self,
        session: &mut T,
        handler: &mut H,
        payload: Bytes,
    ) -> Result<(), T::Error> {
        let before = session.kex();
        let mut packet = self.input.packet(payload);
        // Boxed, because a key exchange needs much more than all the rest and is rare.
        Box::pin(session.transport_packet(handler, &mut packet)).await?;
        self.input.seqn = packet.seqn;
        if before != Kex::Idle && session.kex() == Kex::Idle {
            self.input.bytes = 0;
            self.timers.rekey_at = rekey_at(session);
        }
        Ok(())
    }

    /// Waits until something has moved, and moves all that can.
    async fn step<T: Transport<H>, H: Send>(
        &mut self,
        session: &mut T,
    ) -> Result<Option<End>, Error> {
        let Self { input, output, queues, timers } = self;
        let Queues { received, held, to_send, ended } = queues;
        let kex = session.kex();
        let mut left = false;
        let mut alone = false;
        {
            let consumer = received.as_ref();
            let waiting = consumer.filter(|_| held.is_some());
            let mut room = pin!(OptionFuture::from(waiting.map(Sender::reserve)));
            let mut closed = pin!(OptionFuture::from(consumer.map(Sender::closed)));
            poll_fn(|cx| -> Poll<Result<(), Error>> {
                let mut moved = session.poll_handle(cx)?.is_ready();
                let common = session.common();
                if kex == Kex::Idle && !*ended {
                    moved |= output.fill(cx, &mut common.packet_writer, to_send, ended)?;
                }
                moved |= output.poll_write(cx, &mut common.packet_writer)?;
                if held.is_none() && output.owed(common) <= REPLIES_LIMIT {
                    if let Poll::Ready(read) = input.poll_fill(cx)? {
                        left = read == 0;
                        moved = true;
                    }
                }
                timers.used |= moved;
                if let Poll::Ready(Some(permit)) = room.as_mut().poll(cx) {
                    if let (Ok(permit), Some(packet)) = (permit, held.take()) {
                        permit.send(packet);
                    }
                    moved = true;
                }
                if let Poll::Ready(Some(())) = closed.as_mut().poll(cx) {
                    alone = true;
                    moved = true;
                }
                moved |= timers.poll(cx).is_ready();
                if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
            })
            .await?;
        }
        if left {
            return self.input.finish().map(|()| Some(End::Left));
        }
        if alone || self.queues.ended {
            self.begin_closing();
        }
        Ok(self.after_timers(session))
    }

    fn after_timers<T: Transport<H>, H>(&mut self, session: &mut T) -> Option<End> {
        let now = Instant::now();
        let writer = &mut session.common().packet_writer;
        if self.timers.shrink_at.is_some_and(|at| at <= now) {
            if std::mem::take(&mut self.timers.used) {
                self.timers.shrink_at = Some(now + SHRINK_AFTER);
            } else {
                self.timers.shrink_at = None;
                self.input.shrink();
                self.output.shrink(writer);
            }
        } else if self.timers.shrink_at.is_none() && (self.input.large() || self.output.large(writer)) {
            self.timers.shrink_at = Some(now + SHRINK_AFTER);
        }
        if self.timers.rekey_at.is_some_and(|at| at <= now) {
            // It begins when what is queued is encrypted.
            self.timers.rekey_at = None;
        }
        let late = self.timers.close_at.is_some_and(|at| at <= now);
        late.then_some(End::Ours)
    }

    /// One of the two queues has no other end any more: the rest is sent, nothing is received.
    fn begin_closing(&mut self) {
        self.queues.received = None;
        self.queues.held = None;
        self.queues.to_send.close();
        let latest = Instant::now() + CLOSE_WITHIN;
        self.timers.close_at.get_or_insert(latest);
    }

    /// Writes the rest, then waits for the peer to close: a socket that is closed with unread input
    /// is reset, and the peer would lose what it hasn't read yet.
    async fn close(&mut self, writer: &mut PacketWriter) {
        self.begin_closing();
        let deadline = self.timers.close_at.unwrap_or_else(Instant::now);
        let Self { input, output, .. } = self;
        let goodbye = async {
            tokio::join!(output.finish(writer), input.discard());
        };
        if timeout_at(deadline, goodbye).await.is_err() {
            debug!("the peer did not close in time");
        }
    }
}

/// Answers OpenSSH's transport-level ping (`ping@openssh.com`), which arrives among the packets of
/// the connection protocol but isn't one.
fn pong<C>(common: &mut CommonSession<C>, ping: &[u8]) -> Result<(), Error> {
    if let (Some(enc), Some(data)) = (common.encrypted.as_mut(), ping.get(1..)) {
        push_packet!(enc.write, {
            msg::PONG.encode(&mut enc.write)?;
            enc.write.extend_from_slice(data);
        });
    }
    Ok(())
}

/// The session's ends of the two queues, and a packet for which there is no room yet.
struct Queues {
    received: Option<Sender<Bytes>>,
    held: Option<Bytes>,
    to_send: Receiver<Bytes>,
    /// Nothing more will come to be sent.
    ended: bool,
}

impl Queues {
    fn new(ends: TakenOver) -> Self {
        Self {
            received: Some(ends.received),
            held: None,
            to_send: ends.to_send,
            ended: false,
        }
    }

    /// Fails if nobody receives any more. Without a receiver, packets are dropped.
    fn deliver(&mut self, packet: Bytes) -> Result<(), ()> {
        let Some(received) = &self.received else {
            return Ok(());
        };
        match received.try_send(packet) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(packet)) => {
                self.held = Some(packet);
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(()),
        }
    }
}

/// What was read and isn't worked off yet.
struct Input<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Where the next packet begins in the buffer.
    start: usize,
    /// The size of the next packet, if enough of it has arrived to tell.
    size: usize,
    /// A read has filled the whole buffer: there is more than key strokes.
    busy: bool,
    seqn: Wrapping<u32>,
    /// Since the last key exchange.
    bytes: usize,
}

impl<R: AsyncRead + Unpin> Input<R> {
    fn new(stream: R, read: SSHBuffer) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            size: 0,
            busy: false,
            seqn: read.seqn,
            bytes: read.bytes,
        }
    }

    /// The payload of the next packet, if all of it has arrived.
    fn next<C>(&mut self, common: &mut CommonSession<C>) -> Result<Option<Bytes>, Error> {
        let cipher = &mut *common.remote_to_local;
        let arrived = self.buffer.get_mut(self.start..).unwrap_or_default();
        let Some(first) = arrived.get(..cipher.packet_length_to_read_for_block_length()) else {
            return Ok(None);
        };
        self.size = cipher::packet_size(cipher, self.seqn.0, first)?;
        let Some(packet) = arrived.get_mut(..self.size) else {
            return Ok(None);
        };
        let payload = cipher::open_packet(cipher, self.seqn.0, packet)?;
        self.start += self.size;
        self.size = 0;
        // Sequence numbers are on 32 bits and wrap.
        // https://tools.ietf.org/html/rfc4253#section-6.4
        self.seqn += Wrapping(1);
        self.bytes = self.bytes.saturating_add(payload.len());
        match common.encrypted.as_mut() {
            Some(enc) => enc.decompress.decompress_to_bytes(payload).map(Some),
            None => Ok(Some(Bytes::copy_from_slice(payload))),
        }
    }

    fn packet(&self, payload: Bytes) -> IncomingSshPacket {
        IncomingSshPacket {
            buffer: payload.into(),
            seqn: self.seqn,
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        let reading = pin!(self.stream.read_buf(&mut self.buffer));
        let read = std::task::ready!(reading.poll(cx))?;
        self.busy |= read == room;
        Poll::Ready(Ok(read))
    }

    /// For the whole packet that has begun to arrive, and for as much more as the buffer should hold.
    fn make_room(&mut self) {
        let wanted = self.size.max(if self.busy { INPUT_BUSY } else { INPUT_IDLE });
        if self.start + wanted > self.buffer.capacity() || self.start == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer
                .reserve_exact(wanted.saturating_sub(self.buffer.len()));
        }
    }

    /// The peer has closed the connection.
    fn finish(&self) -> Result<(), Error> {
        if self.start == self.buffer.len() {
            Ok(())
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
        }
    }

    async fn discard(&mut self) {
        loop {
            self.buffer.clear();
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn large(&self) -> bool {
        self.buffer.capacity() > INPUT_IDLE
    }

    fn shrink(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
            self.busy = false;
        }
    }
}

/// The socket's other half. What is to be written is in the session's packet writer.
struct Output<'w, W> {
    stream: &'w mut W,
    /// How much of the packet writer's buffer is written.
    written: usize,
    flushed: bool,
}

impl<'w, W: AsyncWrite + Unpin> Output<'w, W> {
    fn new(stream: &'w mut W) -> Self {
        Self {
            stream,
            written: 0,
            flushed: true,
        }
    }

    fn pending(&self, writer: &mut PacketWriter) -> usize {
        writer.buffer().buffer.len() - self.written
    }

    /// With what waits for the end of a key exchange.
    fn owed<C>(&self, common: &mut CommonSession<C>) -> usize {
        let queued = common.encrypted.as_ref().map_or(0, |enc| enc.write.len());
        queued + self.pending(&mut common.packet_writer)
    }

    /// Takes packets from the queue while there is room for them.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut PacketWriter,
        to_send: &mut Receiver<Bytes>,
        ended: &mut bool,
    ) -> Result<bool, Error> {
        let mut moved = false;
        if self.pending(writer) > OUTPUT_REFILL {
            return Ok(moved);
        }
        writer.buffer().buffer.drain(..self.written);
        self.written = 0;
        while self.pending(writer) < OUTPUT_LIMIT {
            let Poll::Ready(packet) = to_send.poll_recv(cx) else {
                break;
            };
            moved = true;
            let Some(packet) = packet else {
                *ended = true;
                break;
            };
            writer.packet_raw(&packet)?;
        }
        Ok(moved)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut PacketWriter,
    ) -> std::io::Result<bool> {
        let buffer = &mut writer.buffer().buffer;
        let mut moved = false;
        while let Some(rest) = buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *self.stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.written += written,
                Poll::Pending => return Ok(moved),
            }
            self.flushed = false;
            moved = true;
        }
        buffer.clear();
        self.written = 0;
        if !self.flushed && Pin::new(&mut *self.stream).poll_flush(cx)?.is_ready() {
            self.flushed = true;
        }
        Ok(moved)
    }

    async fn finish(&mut self, writer: &mut PacketWriter) {
        let rest = writer.buffer().buffer.get(self.written..).unwrap_or_default();
        // The peer may be gone already.
        if self.stream.write_all(rest).await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }

    fn large(&self, writer: &mut PacketWriter) -> bool {
        writer.buffer().buffer.capacity() > INPUT_IDLE
    }

    fn shrink(&mut self, writer: &mut PacketWriter) {
        if self.pending(writer) == 0 {
            self.written = 0;
            writer.release_buffers();
        }
    }
}

#[derive(Default)]
struct Timers {
    sleep: Option<Pin<Box<Sleep>>>,
    rekey_at: Option<Instant>,
    shrink_at: Option<Instant>,
    close_at: Option<Instant>,
    /// Something has moved since the last look at the buffers.
    used: bool,
}

impl Timers {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = [self.rekey_at, self.shrink_at, self.close_at];
        let Some(next) = next.into_iter().flatten().min() else {
            self.sleep = None;
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        sleep.as_mut().poll(cx)
    }
}
