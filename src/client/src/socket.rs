//! The connection to a command in a pod: the channels of `v5.channel.k8s.io` in one websocket.
//!
//! Not kube's own `AttachedProcess`, because that sends and receives in turns: a command that ends without reading its
//! whole input would never be seen to end, once the input fills the connection.

use std::io;
use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::api::AttachParams;
use kube::core::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::TtySize;

/// Channels: k8s.io/apimachinery/pkg/util/remotecommand/constants.go.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Most bytes of one message of input.
const CHUNK: usize = 32 * 1024;

/// Often enough that no proxy takes the connection for dead.
const PING: Duration = Duration::from_secs(30);

/// What Ctrl-D sends, which a terminal takes for the end of its input.
const END_OF_TRANSMISSION: u8 = 4;

type Sender = Box<dyn Sink<Message, Error = SocketError> + Send + Unpin>;
type Incoming = Box<dyn Stream<Item = Result<Message, SocketError>> + Send + Unpin>;

/// A connection to a command.
pub(crate) struct Socket {
    send: Sender,
    receive: Incoming,
    has_input: bool,
    has_tty: bool,
    /// Whether the end of the input can be told without ending the connection.
    can_close: bool,
}

impl Socket {
    /// Starts a command in a pod.
    pub async fn open(
        client: &Client,
        pods: &str,
        pod: &str,
        argv: &[String],
        params: &AttachParams,
    ) -> Result<Self, kube::Error> {
        let request = Request::new(pods).exec(pod, argv, params).map_err(kube::Error::BuildRequest)?;
        let connection = client.connect(request).await?;
        let can_close = connection.supports_stream_close();
        let (send, receive) = connection.into_stream().split();
        let (send, receive) = (Box::new(send), Box::new(receive));
        Ok(Self { send, receive, has_input: params.stdin, has_tty: params.tty, can_close })
    }

    /// Passes everything on until the command ends. Without a status the connection was lost.
    pub async fn run(
        self,
        stdin: impl AsyncRead + Unpin,
        stdout: impl AsyncWrite + Unpin,
        stderr: impl AsyncWrite + Unpin,
        sizes: Receiver<TtySize>,
    ) -> io::Result<Option<Status>> {
        let ended = receive(self.receive, stdout, stderr);
        let end = match (self.has_tty, self.can_close) {
            (true, _) => frame(STDIN, &[END_OF_TRANSMISSION]),
            (false, true) => Message::binary(vec![CLOSE, STDIN]),
            (false, false) => Message::Close(None),
        };
        let input = send(self.send, self.has_input.then_some(stdin), end, sizes);
        tokio::select! {
            status = ended => status,
            never = input => match never {},
        }
    }
}

/// Receives until the status comes or the connection ends. Only a failure to write is an error.
async fn receive(
    mut messages: Incoming,
    mut stdout: impl AsyncWrite + Unpin,
    mut stderr: impl AsyncWrite + Unpin,
) -> io::Result<Option<Status>> {
    while let Some(Ok(message)) = messages.next().await {
        let Message::Binary(data) = message else { continue };
        match data.split_first() {
            // Written as it comes, so that a prompt is seen at once.
            Some((&STDOUT, data)) if !data.is_empty() => pass(data, &mut stdout).await?,
            Some((&STDERR, data)) if !data.is_empty() => pass(data, &mut stderr).await?,
            Some((&STATUS, data)) if !data.is_empty() => return Ok(serde_json::from_slice(data).ok()),
            _ => {}
        }
    }
    Ok(None)
}

async fn pass(data: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// What is to be sent next.
enum Next {
    Input(io::Result<usize>),
    Size(Option<TtySize>),
    Ping,
}

/// Sends input and sizes. It never ends by itself: whatever becomes of the command is told by the other side.
async fn send(
    mut socket: Sender,
    mut stdin: Option<impl AsyncRead + Unpin>,
    end: Message,
    mut sizes: Receiver<TtySize>,
) -> std::convert::Infallible {
    let mut buffer = vec![0; CHUNK];
    let mut pings = tokio::time::interval(PING);
    pings.reset();
    let mut follows_size = true;
    loop {
        let next = tokio::select! {
            read = read(stdin.as_mut(), &mut buffer) => Next::Input(read),
            size = sizes.recv(), if follows_size => Next::Size(size),
            _ = pings.tick() => Next::Ping,
        };
        let message = match next {
            Next::Input(Ok(n)) if n > 0 => frame(STDIN, &buffer[..n]),
            Next::Input(_) => {
                stdin = None;
                end.clone()
            }
            Next::Size(Some(TtySize { rows, cols })) => {
                frame(RESIZE, format!(r#"{{"Width":{cols},"Height":{rows}}}"#).as_bytes())
            }
            Next::Size(None) => {
                follows_size = false;
                continue;
            }
            Next::Ping => Message::Ping(Default::default()),
        };
        if socket.send(message).await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn read(stdin: Option<&mut (impl AsyncRead + Unpin)>, buffer: &mut [u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.read(buffer).await,
        None => std::future::pending().await,
    }
}

fn frame(channel: u8, data: &[u8]) -> Message {
    Message::binary([&[channel], data].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use tokio::io::{AsyncReadExt, empty, repeat};

    /// A socket whose other end is in the hands of the test.
    fn socket(
        room: usize,
        has_tty: bool,
    ) -> (Socket, mpsc::Receiver<Message>, mpsc::UnboundedSender<Result<Message, SocketError>>) {
        let (send, sent) = mpsc::channel(room);
        let (answer, receive) = mpsc::unbounded();
        let send = Box::new(send.sink_map_err(|_| SocketError::ConnectionClosed));
        let socket = Socket { send, receive: Box::new(receive), has_input: true, has_tty, can_close: true };
        (socket, sent, answer)
    }

    fn status(code: &str) -> Message {
        let causes = format!(r#"{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}"#);
        frame(STATUS, format!(r#"{{"status":"Failure","details":{causes}}}"#).as_bytes())
    }

    fn no_sizes() -> Receiver<TtySize> {
        tokio::sync::mpsc::channel(1).1
    }

    #[tokio::test]
    async fn a_command_that_ends_without_reading_its_input_is_seen_to_end() {
        // Nothing ever takes a message, so that sending blocks.
        let (socket, _sent, answer) = socket(0, false);
        answer.unbounded_send(Ok(frame(STDOUT, b"out"))).unwrap();
        answer.unbounded_send(Ok(status("7"))).unwrap();
        let mut out = Vec::new();
        let status = socket.run(repeat(b'x'), &mut out, tokio::io::sink(), no_sizes()).await.unwrap();
        assert_eq!(out, b"out");
        assert!(status.is_some());
    }

    #[tokio::test]
    async fn a_broken_connection_is_no_success() {
        let (socket, _sent, answer) = socket(9, false);
        drop(answer);
        let status = socket.run(empty(), tokio::io::sink(), tokio::io::sink(), no_sizes()).await.unwrap();
        assert_eq!(status, None);
    }

    #[tokio::test]
    async fn the_end_of_the_input_is_told_after_all_of_it() {
        for (has_tty, end) in [(false, vec![CLOSE, STDIN]), (true, vec![STDIN, END_OF_TRANSMISSION])] {
            let (socket, mut sent, answer) = socket(9, has_tty);
            let told = async {
                assert_eq!(sent.next().await.unwrap().into_data(), frame(STDIN, b"abc").into_data());
                assert_eq!(sent.next().await.unwrap().into_data().to_vec(), end);
                answer.unbounded_send(Ok(status("0"))).unwrap();
            };
            let run = socket.run(b"abc".take(3), tokio::io::sink(), tokio::io::sink(), no_sizes());
            let (_, status) = tokio::join!(told, run);
            assert!(status.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn the_size_of_the_terminal_is_sent_while_the_input_waits() {
        let (socket, mut sent, answer) = socket(9, true);
        let (size, sizes) = tokio::sync::mpsc::channel(1);
        let (_keep, waiting) = tokio::io::duplex(1);
        let told = async {
            size.send(TtySize { rows: 24, cols: 80 }).await.unwrap();
            let message = sent.next().await.unwrap().into_data();
            assert_eq!(&message[1..], br#"{"Width":80,"Height":24}"#);
            answer.unbounded_send(Ok(status("0"))).unwrap();
        };
        let run = socket.run(waiting, tokio::io::sink(), tokio::io::sink(), sizes);
        tokio::join!(told, run).1.unwrap();
    }
}
