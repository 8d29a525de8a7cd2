//! What a client's connection does, and how long it may.
//!
//! hyper has one limit for a head that comes slowly and for a connection that waits for its next request. They are two
//! things: the first must be short, against clients that hold connections with a byte now and then; the second must be longer
//! than that of a proxy in front, or the proxy sends requests into connections that are being closed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How HTTP/2 begins (RFC 9113, section 3.4); no method of HTTP/1 does.
const HTTP2: &[u8] = b"PRI ";

/// What a connection does.
pub struct Phase(Mutex<State>);

struct State {
    /// Requests that are not answered to the end.
    open: usize,
    /// Whether the head of a request is on its way.
    reading: bool,
    http2: bool,
    /// Since when nothing of this changed.
    since: Instant,
}

impl Phase {
    /// A connection that has just come, and whose first request is awaited at once.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { open: 0, reading: true, http2: false, since: Instant::now() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    fn received(&self) {
        let mut state = self.state();
        if state.open == 0 && !state.reading && !state.http2 {
            state.reading = true;
            state.since = Instant::now();
        }
    }

    fn is_http2(&self) {
        let mut state = self.state();
        state.http2 = true;
        state.reading = false;
    }

    /// A request's head is complete. It is open for as long as what this returns lives.
    pub fn begin(self: &Arc<Self>) -> Open {
        let mut state = self.state();
        state.open += 1;
        state.reading = false;
        Open(self.clone())
    }

    /// Whether the connection has done nothing useful for too long.
    pub fn has_expired(&self, head: Duration, idle: Duration) -> bool {
        let state = self.state();
        let limit = if state.reading { head } else { idle };
        state.open == 0 && state.since.elapsed() >= limit
    }

    /// Whether the head of a request is on its way.
    pub fn is_reading(&self) -> bool {
        self.state().reading
    }
}

/// A request that is not answered to the end.
pub struct Open(Arc<Phase>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.since = Instant::now();
    }
}

/// A connection that tells its [`Phase`] what comes.
pub struct Watched<S> {
    stream: S,
    phase: Arc<Phase>,
    /// First bytes, as far as they are those of HTTP/2; nothing once it is decided.
    matched: Option<usize>,
}

impl<S> Watched<S> {
    /// Watches `stream`.
    pub fn new(stream: S, phase: Arc<Phase>) -> Self {
        Self { stream, phase, matched: Some(0) }
    }

    /// The connection itself.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn came(&mut self, bytes: &[u8]) {
        if let Some(matched) = self.matched {
            let expected = &HTTP2[matched..];
            let length = expected.len().min(bytes.len());
            self.matched = (expected[..length] == bytes[..length]).then_some(matched + length);
            if self.matched == Some(HTTP2.len()) {
                self.matched = None;
                self.phase.is_http2();
            }
        }
        if !bytes.is_empty() {
            self.phase.received();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.came(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(15);
    const IDLE: Duration = Duration::from_secs(120);

    async fn after(phase: &Phase, wait: Duration) -> bool {
        tokio::time::advance(wait).await;
        phase.has_expired(HEAD, IDLE)
    }

    fn send(watched: &mut Watched<tokio::io::Empty>, bytes: &[u8]) {
        watched.came(bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_little_time_and_a_connection_that_waits_has_more() {
        let phase = Phase::new();
        let mut stream = Watched::new(tokio::io::empty(), phase.clone());
        assert!(!after(&phase, HEAD / 2).await);
        send(&mut stream, b"GET / HT");
        assert!(after(&phase, HEAD / 2).await, "bytes that trickle in gain no time");
        drop(phase.begin());
        assert!(!after(&phase, HEAD).await);
        send(&mut stream, b"G");
        assert!(!after(&phase, HEAD / 2).await);
        assert!(after(&phase, HEAD / 2).await);
        drop(phase.begin());
        assert!(after(&phase, IDLE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_it_likes() {
        let phase = Phase::new();
        let mut stream = Watched::new(tokio::io::empty(), phase.clone());
        let (first, second) = (phase.begin(), phase.begin());
        drop(first);
        send(&mut stream, b"a body");
        assert!(!after(&phase, IDLE * 100).await);
        drop(second);
        assert!(!after(&phase, HEAD).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_http_2_may_wait_before_its_first_request() {
        let phase = Phase::new();
        let mut stream = Watched::new(tokio::io::empty(), phase.clone());
        send(&mut stream, b"PR");
        send(&mut stream, b"I * HTTP/2.0");
        assert!(!after(&phase, HEAD).await);
        send(&mut stream, b"a ping");
        assert!(!after(&phase, HEAD).await);
        assert!(after(&phase, IDLE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_method_that_begins_as_http_2_does_is_none() {
        let phase = Phase::new();
        let mut stream = Watched::new(tokio::io::empty(), phase.clone());
        send(&mut stream, b"PROPFIND / HTTP/1.1");
        assert!(after(&phase, HEAD).await);
    }
}
