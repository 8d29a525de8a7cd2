//! Connections to the pods of Sparks.

use std::{io, net::SocketAddr, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{body::Upload, pool::Held, wire::Wire};

/// How long a pod may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses between attempts while a service that has just started doesn't listen yet.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a head, and of what is read ahead of a body.
pub const BUFFER: usize = 64 << 10;
/// Bytes of one stream that nobody reads, so that a slow reader can't stop the other streams of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * super::streams::PER_CONNECTION as u32;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// The pod is there and nothing listens.
    Refused,
    /// The pod is not there, or too busy.
    NoAnswer,
    /// What listens speaks another protocol.
    NotHttp,
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::NoAnswer,
        }
    }
}

/// Connects. Until `patience`, a service that doesn't listen is given time to start.
pub async fn dial(address: SocketAddr, patience: Option<Instant>) -> Result<TcpStream, DialError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return prepared(stream).map_err(DialError::from),
            Ok(Err(error)) => DialError::from(error),
            Err(_) => DialError::NoAnswer,
        };
        let is_patient = patience.is_some_and(|until| Instant::now() < until);
        if error != DialError::Refused || !is_patient {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Sends small writes at once, and notices a peer that is gone without a word.
pub fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    const QUIET: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(15);
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(QUIET).with_interval(INTERVAL).with_retries(4);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Speaks HTTP/1.1.
pub async fn http1(stream: TcpStream) -> Result<Held, DialError> {
    let wire = Wire::new(stream);
    let builder = http1::Builder::new().max_buf_size(BUFFER).to_owned();
    let (sender, connection) =
        builder.handshake(TokioIo::new(wire.clone())).await.map_err(|_| DialError::NotHttp)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a Spark ended");
        }
    });
    Ok(Held { sender, wire })
}

/// Speaks HTTP/2 without asking first. No pings: servers of gRPC end connections that ping more than every five minutes.
pub async fn http2(stream: TcpStream) -> Result<http2::SendRequest<Upload>, DialError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(BUFFER as u32)
        .max_send_buf_size(BUFFER);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|_| DialError::NotHttp)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a Spark ended");
        }
    });
    Ok(sender)
}
