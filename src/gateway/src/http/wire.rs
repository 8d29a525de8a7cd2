//! A TCP connection that can be asked whether the other side has closed it, while hyper has it.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection. Clones are the same one; only one of them may be read and written.
#[derive(Clone)]
pub struct Wire(Arc<TcpStream>);

impl Wire {
    /// Wraps a connection.
    pub fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Whether nothing came that nobody asked for, the end least of all. The kernel knows before any task has run.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        SockRef::from(&*self.0).peek(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Tries until the system says something else than to wait.
fn when<T>(
    mut is_ready: impl FnMut() -> Poll<io::Result<()>>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        ready!(is_ready())?;
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        when(|| self.0.poll_read_ready(cx), || self.0.try_read_buf(buf)).map_ok(drop)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        when(|| self.0.poll_write_ready(cx), || self.0.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        when(|| self.0.poll_write_ready(cx), || self.0.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(near), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_closed_connection_is_not_quiet() {
        let (near, far) = pair().await;
        assert!(near.is_quiet());
        drop(far);
        near.0.readable().await.unwrap();
        assert!(!near.is_quiet());
    }

    #[tokio::test]
    async fn what_is_written_at_one_end_is_read_at_the_other() {
        const LENGTH: usize = 4 << 20;
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        let expected = sent.clone();
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            far.write_all(&all).await.unwrap();
        });
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut received = Vec::new();
        near.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        echo.await.unwrap();
    }
}
