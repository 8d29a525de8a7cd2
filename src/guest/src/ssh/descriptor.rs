//! Pipes and terminals as asynchronous streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, dup};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// One or two file descriptors as a stream.
pub struct Descriptor {
    read: AsyncFd<OwnedFd>,
    write: AsyncFd<OwnedFd>,
}

impl Descriptor {
    /// Standard input and output. What else writes to standard output, the log for one, goes to standard error from
    /// now on.
    ///
    /// # Errors
    /// The kernel's; a file can't be waited for.
    pub fn stdio() -> io::Result<Self> {
        let both = Self {
            read: watched(dup(io::stdin())?, Interest::READABLE)?,
            write: watched(dup(io::stdout())?, Interest::WRITABLE)?,
        };
        rustix::stdio::dup2_stdout(io::stderr())?;
        Ok(both)
    }
}

/// Makes a descriptor one that can be waited for.
///
/// # Errors
/// The kernel's.
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    // SAFETY: an OwnedFd keeps its number, and the file stays open for as long as it is owned.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

impl AsyncRead for Descriptor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.read.poll_read_ready(cx))?;
            // SAFETY: nothing uninitialised is written there; what was read is noted as such.
            let spare = unsafe { buffer.unfilled_mut() };
            match ready.try_io(|fd| Ok(rustix::io::read(fd.as_fd(), spare).map(|(read, _)| read.len())?)) {
                Ok(Ok(length)) => {
                    // SAFETY: the kernel has filled that many.
                    unsafe { buffer.assume_init(length) };
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Descriptor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.write.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.as_fd(), data)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Waits for more to come of a descriptor that has just said EAGAIN.
///
/// A terminal hangs up when the last program closes it, and may be opened again later. tokio takes a hang-up for final,
/// and says for ever that there is something: then it is looked at now and then.
#[derive(Debug, Default)]
pub struct Patience {
    hung_up: bool,
}

impl Patience {
    /// Pause between two looks at a terminal that has hung up.
    const PAUSE: Duration = Duration::from_millis(20);

    /// Until there may be something to read.
    ///
    /// # Errors
    /// The runtime's, at its end.
    pub async fn readable(&mut self, fd: &AsyncFd<OwnedFd>) -> io::Result<()> {
        self.pause().await;
        let mut ready = fd.readable().await?;
        self.hung_up = ready.ready().is_read_closed();
        ready.clear_ready();
        Ok(())
    }

    /// Until there may be room to write.
    ///
    /// # Errors
    /// The runtime's, at its end.
    pub async fn writable(&mut self, fd: &AsyncFd<OwnedFd>) -> io::Result<()> {
        self.pause().await;
        let mut ready = fd.writable().await?;
        self.hung_up = ready.ready().is_write_closed();
        ready.clear_ready();
        Ok(())
    }

    async fn pause(&self) {
        if self.hung_up {
            tokio::time::sleep(Self::PAUSE).await;
        }
    }
}

/// Writes all of it.
///
/// # Errors
/// The kernel's: EPIPE where nobody reads any more.
pub async fn write_all(fd: &AsyncFd<OwnedFd>, mut data: &[u8]) -> io::Result<()> {
    let mut patience = Patience::default();
    while !data.is_empty() {
        // At once where there is room, which there is for nearly every keystroke.
        match rustix::io::write(fd, data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => data = data.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => patience.writable(fd).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
