use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Bounds the time before authentication: the stream fails with [`io::ErrorKind::TimedOut`] unless
/// [`Guard::authenticated`] was called within the time given.
///
/// In the stream and not around the session, because russh runs that in a task of its own, where it waits for its
/// peer without a limit.
pub fn guarded<S>(stream: S, within: Duration) -> (Guarded<S>, Guard) {
    let authenticated = Arc::new(AtomicBool::new(false));
    let deadline = Deadline { sleep: Box::pin(sleep(within)), authenticated: Arc::clone(&authenticated) };
    (Guarded { stream, deadline: Some(deadline) }, Guard(authenticated))
}

/// Lifts the deadline of a [`Guarded`] stream. Dropped, it leaves it in force.
#[derive(Debug)]
pub struct Guard(Arc<AtomicBool>);

impl Guard {
    /// The peer has authenticated in time.
    pub fn authenticated(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream with a deadline, see [`guarded`].
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct Deadline {
    sleep: Pin<Box<Sleep>>,
    authenticated: Arc<AtomicBool>,
}

impl<S> Guarded<S> {
    /// Fails when it is too late; otherwise the task will be woken then.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        if deadline.authenticated.load(Ordering::Relaxed) {
            self.deadline = None;
        } else if deadline.sleep.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not authenticate in time"));
        }
        Ok(())
    }

    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>>
    where
        S: Unpin,
    {
        self.check(cx)?;
        Ok(Pin::new(&mut self.stream))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }
}
