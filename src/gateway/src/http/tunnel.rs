//! Connections that have changed to another protocol, such as websockets: bytes both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy as copy_all, split},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::consume_budget,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::body::Pulse;

/// What is copied at once between connections. On loopback 64 KiB take twice the processor's time; 256 KiB and splice(2)
/// take no less.
const CHUNK: usize = 128 << 10;
/// The same in a tunnel, which holds it for as long as it is open.
const SMALL_CHUNK: usize = 8 << 10;
/// How often it is looked whether the client of a tunnel is still there.
const LOOK: Duration = Duration::from_secs(3);

/// Copies until both sides have ended, or one broke.
pub async fn copy(client: OnUpgrade, spark: OnUpgrade, pulse: Pulse) {
    let (client, spark) = match tokio::try_join!(client, spark) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "a change of protocol was not completed"),
    };
    let (from_client, to_client) = split(Beating { stream: TokioIo::new(client), pulse });
    let (from_spark, to_spark) = split(TokioIo::new(spark));
    match tokio::try_join!(up(from_client, to_spark), down(from_spark, to_client)) {
        Ok((sent, received)) => tracing::debug!(sent, received, "a tunnel ended"),
        Err(error) => tracing::debug!(%error, "a tunnel broke"),
    }
}

/// What the client says.
async fn up(mut client: impl AsyncRead + Unpin, mut spark: impl AsyncWrite + Unpin) -> io::Result<u64> {
    let sent = copy_all(&mut client, &mut spark).await?;
    spark.shutdown().await?;
    Ok(sent)
}

/// What the Spark says, as long as the client is there. A stream of HTTP/2 that is cancelled reads like one of which only a
/// side has ended, or is not read because the Spark takes nothing; hyper tells then only who writes or flushes.
async fn down(mut spark: impl AsyncRead + Unpin, mut client: impl AsyncWrite + Unpin) -> io::Result<u64> {
    let (mut chunk, mut received) = (vec![0; SMALL_CHUNK], 0);
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let read = tokio::select! {
            biased;
            read = spark.read(&mut chunk) => read?,
            _ = looks.tick() => {
                client.flush().await?;
                continue;
            }
        };
        if read == 0 {
            client.shutdown().await?;
            return Ok(received);
        }
        client.write_all(&chunk[..read]).await?;
        received += read as u64;
    }
}

/// Copies between two connections until both sides have ended, or one broke: how many bytes the client sent, `ahead`
/// included, which go first, and how many it received. Nothing is held while nothing flows.
pub async fn pass(client: TcpStream, ahead: Bytes, spark: TcpStream) -> io::Result<(u64, u64)> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_spark, mut to_spark) = spark.into_split();
    let up = one_way(&mut from_client, ahead, &mut to_spark);
    tokio::try_join!(up, one_way(&mut from_spark, Bytes::new(), &mut to_client))
}

/// Who can't be written to may still have said something, which the other way passes on; who can't be read has gone.
async fn one_way(from: &mut OwnedReadHalf, ahead: Bytes, to: &mut OwnedWriteHalf) -> io::Result<u64> {
    let mut is_heard = to.write_all(&ahead).await.is_ok();
    let mut count = ahead.len() as u64;
    drop(ahead);
    loop {
        from.readable().await?;
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(read) = read_now(from, &mut chunk)? {
            if read == 0 {
                // It fails where nobody listens any more.
                let _ = to.shutdown().await;
                return Ok(count);
            }
            // Read all the same: a connection that is closed with something unread loses what it has yet to send.
            is_heard = is_heard && to.write_all(&chunk).await.is_ok();
            count += read as u64;
            // What is not passed on waits for nothing, and must not keep others waiting.
            consume_budget().await;
        }
    }
}

/// Reads what is there: 0 bytes at the end, nothing if nothing has come yet.
fn read_now(from: &OwnedReadHalf, chunk: &mut Vec<u8>) -> io::Result<Option<usize>> {
    chunk.clear();
    match from.try_read_buf(chunk) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Shutdown;

    use socket2::SockRef;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_hears_nothing_any_more_is_heard_to_its_last_word() {
        let ((client, mut visitor), (spark, mut guest)) = (pair().await, pair().await);
        // Every write to it fails.
        SockRef::from(&spark).shutdown(Shutdown::Write).unwrap();
        let passed = tokio::spawn(pass(client, Bytes::from_static(b"lost"), spark));
        guest.write_all(b"last words").await.unwrap();
        drop(guest);
        let mut heard = String::new();
        visitor.read_to_string(&mut heard).await.unwrap();
        drop(visitor);
        assert_eq!((heard.as_str(), passed.await.unwrap().unwrap()), ("last words", (4, 10)));
    }
}
