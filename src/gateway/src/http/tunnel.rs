//! Connections that have changed to another protocol, such as websockets: bytes both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::body::Pulse;

/// Copies until both sides have ended, or one broke.
pub async fn copy(client: OnUpgrade, spark: OnUpgrade, pulse: Pulse) {
    let (client, spark) = match tokio::try_join!(client, spark) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "a change of protocol was not completed"),
    };
    let mut client = Beating { stream: TokioIo::new(client), pulse };
    let mut spark = TokioIo::new(spark);
    match copy_bidirectional(&mut client, &mut spark).await {
        Ok((sent, received)) => tracing::debug!(sent, received, "a tunnel ended"),
        Err(error) => tracing::debug!(%error, "a tunnel broke"),
    }
}

/// A stream that records activity for as long as bytes flow.
struct Beating<S> {
    stream: S,
    pulse: Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Beating<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.pulse.beat();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beating<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.pulse.beat();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
