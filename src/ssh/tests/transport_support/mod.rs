//! Two sides of a transport, and packets that tell whether one is missing.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use russh::{
    client,
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, ssh_key::private::Ed25519Keypair},
    server::{self, Auth, Handler, Session, VerifiedPublicKey},
};
use sparks_ssh::{
    Packets, TransportEnds, queues,
    transport::{Dialer, Guard, PrivateKey, client_config, tune},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

const HOST: u8 = 1;
const USER: u8 = 2;

/// One side: its packets, and its session's end.
pub struct Side {
    pub packets: Packets,
    pub end: JoinHandle<Result<(), russh::Error>>,
}

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub fn user() -> PrivateKeyWithHashAlg {
    PrivateKeyWithHashAlg::new(Arc::new(key(USER)), None)
}

pub fn server_config() -> server::Config {
    sparks_ssh::transport::server_config(vec![key(HOST)], vec![])
}

/// Two ends of a connection over the loopback.
pub async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (dialled, accepted) = (dialled.expect("connected"), accepted.expect("accepted").0);
    tune(&dialled).expect("tuned");
    tune(&accepted).expect("tuned");
    (accepted, dialled)
}

/// A server that lets the one user in.
#[derive(Default)]
pub struct Server {
    pub ends: Option<TransportEnds>,
    pub banner: Option<String>,
    pub guard: Option<Guard>,
}

impl Server {
    pub fn run<S>(self, config: server::Config, stream: S) -> JoinHandle<Result<(), russh::Error>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::spawn(async move { server::run_stream(config.into(), stream, self).await?.await })
    }
}

impl Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = key.public_key.key_data() == self::key(USER).public_key().key_data();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_success_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.banner.take())
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Some(guard) = self.guard.take() {
            guard.authenticated();
        }
        if let Some((received, to_send)) = self.ends.take() {
            session.take_over(received, to_send);
        }
        Ok(())
    }
}

/// A server that is running when this returns, and a future for its side.
pub fn server<S>(config: server::Config, stream: S, handler: Server) -> impl Future<Output = Side>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, packets) = queues();
    let end = Server { ends: Some(ends), ..handler }.run(config, stream);
    async { Side { packets, end } }
}

/// A client that logs in and runs until its session ends.
pub fn dial<S>(config: client::Config, stream: S, ends: TransportEnds) -> JoinHandle<Result<(), russh::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    run_client(config, stream, Dialer::new(vec![key(HOST).public_key().clone()], ends))
}

fn run_client<H, S>(config: client::Config, stream: S, handler: H) -> JoinHandle<Result<(), russh::Error>>
where
    H: client::Handler<Error = russh::Error> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let mut client = client::connect_stream(config.into(), stream, handler).await?;
        assert!(client.authenticate_publickey("api", user()).await?.success());
        client.await
    })
}

pub async fn client<S>(config: client::Config, stream: S) -> Side
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, packets) = queues();
    Side { packets, end: dial(config, stream, ends) }
}

/// A client and a server with the usual configurations.
pub async fn connected<A, B>((a, b): (A, B)) -> (Side, Side)
where
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = server(server_config(), a, Server::default());
    (client(client_config(), b).await, server.await)
}

/// A session must have ended cleanly.
pub async fn wait(end: JoinHandle<Result<(), russh::Error>>) {
    end.await.expect("a session").expect("a clean end");
}

/// The nth packet: its number, and a length and bytes that follow from it.
pub fn packet(n: usize) -> Bytes {
    static BYTES: [u8; 64 * 1024] = {
        let mut bytes = [0; 64 * 1024];
        let mut i = 0;
        while i < bytes.len() {
            bytes[i] = (i % 251) as u8;
            i += 1;
        }
        bytes
    };
    let len = if n % 5 == 4 { n % 100 } else { 32 * 1024 - n % 1000 };
    let mut packet = Vec::with_capacity(9 + len);
    packet.push(94);
    packet.extend_from_slice(&n.to_be_bytes());
    packet.extend_from_slice(&BYTES[n % 1021..][..len]);
    packet.into()
}

pub async fn send(packets: &Packets, n: usize) {
    packets.outgoing.send(packet(n)).await.expect("a transport");
}

pub async fn receive(packets: &mut Packets, n: usize) {
    let received = packets.incoming.recv().await.expect("a packet");
    assert!(received == packet(n), "packet {n} did not arrive as it was sent");
}

/// Sends `bytes` from each side to the other, at the same time, and lets both sides end.
pub async fn exchange(a: Side, b: Side, bytes: usize) {
    let count = (0..)
        .scan(0, |sum, n| {
            *sum += packet(n).len();
            Some(*sum)
        })
        .take_while(|sum| *sum < bytes)
        .count();
    tokio::join!(both_ways(a.packets, count), both_ways(b.packets, count));
    wait(a.end).await;
    wait(b.end).await;
}

async fn both_ways(packets: Packets, count: usize) {
    let Packets { mut incoming, outgoing } = packets;
    let sending = tokio::spawn(async move {
        for n in 0..count {
            outgoing.send(packet(n)).await.expect("a transport");
        }
        outgoing
    });
    for n in 0..count {
        let received = incoming.recv().await.expect("a packet");
        assert!(received == packet(n), "packet {n} did not arrive as it was sent");
    }
    drop(sending.await);
}

/// What a client has seen of the transport.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A client that has yet to log in and tells what it sees.
pub async fn recording<S>(stream: S, ends: TransportEnds) -> (Seen, client::Handle<Recorder>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seen = Seen::default();
    let recorder = Recorder { seen: Arc::clone(&seen), ends: Some(ends) };
    (seen, client::connect_stream(client_config().into(), stream, recorder).await.expect("connected"))
}

/// A client that logs in, runs until its session ends, and tells what it sees.
pub fn recording_client<S>(config: client::Config, stream: S) -> (Seen, Side)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, packets) = queues();
    let seen = Seen::default();
    let recorder = Recorder { seen: Arc::clone(&seen), ends: Some(ends) };
    (seen, Side { packets, end: run_client(config, stream, recorder) })
}

pub struct Recorder {
    seen: Seen,
    ends: Option<TransportEnds>,
}

impl client::Handler for Recorder {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &russh::Names,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let mut seen = self.seen.lock().expect("seen");
        seen.extend(["key exchange".to_owned(), format!("cipher: {}", names.cipher.as_ref())]);
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), Self::Error> {
        self.seen.lock().expect("seen").push(format!("banner: {banner}"));
        Ok(())
    }

    async fn auth_succeeded(&mut self, session: &mut client::Session) -> Result<(), Self::Error> {
        self.seen.lock().expect("seen").push("success".to_owned());
        if let Some((received, to_send)) = self.ends.take() {
            session.take_over(received, to_send);
        }
        Ok(())
    }
}

/// A stream that fails once it is told so.
pub fn breakable<S>(stream: S) -> (Breakable<S>, oneshot::Sender<()>) {
    let (cut, told) = oneshot::channel();
    (Breakable { stream, told: Some(told) }, cut)
}

pub struct Breakable<S> {
    stream: S,
    told: Option<oneshot::Receiver<()>>,
}

impl<S: Unpin> Breakable<S> {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        if let Some(told) = &mut self.told
            && Pin::new(told).poll(cx).is_ready()
        {
            self.told = None;
        }
        match self.told {
            Some(_) => Ok(Pin::new(&mut self.stream)),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Breakable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Breakable<S> {
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
