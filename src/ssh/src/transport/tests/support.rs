//! Two sides of a transport, and packets that tell whether one is missing.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use russh::{client as russh_client, keys::PublicKeyOrCertificate, server as russh_server};
use ssh_key::private::Ed25519Keypair;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    Packets, TransportEnds, queues,
    transport::{
        Acceptance, Authenticator, Client, Credential, LoginError, Methods, Peer, PrivateKey, Server,
        TransportError, Verdict, algorithms, error::failed, tune,
    },
};

const HOST: u8 = 1;
const USER: u8 = 2;

/// Longer than any login takes here.
pub const WITHIN: Duration = Duration::from_secs(60);

/// One side: its packets, and its session's end.
pub struct Side {
    pub packets: Packets,
    pub end: JoinHandle<Result<(), TransportError>>,
}

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub fn user() -> Arc<PrivateKey> {
    Arc::new(key(USER))
}

/// A server with a configuration that differs a little.
pub fn server_with(change: impl Fn(&mut russh_server::Config)) -> Server {
    Server::with(|| {
        let mut config = algorithms::server(vec![key(HOST)], vec![]);
        change(&mut config);
        config
    })
}

pub fn client_config() -> russh_client::Config {
    algorithms::client()
}

/// The usual server.
pub fn usual() -> Server {
    Server::new(vec![key(HOST)], vec![], Methods::Keys { attempts: 10 })
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

/// Lets the one user in.
pub struct OneUser {
    pub ends: TransportEnds,
    pub banner: Option<String>,
}

impl OneUser {
    /// Without a banner, and whose packets nobody exchanges.
    pub fn alone() -> Self {
        Self { ends: queues().0, banner: None }
    }
}

impl Authenticator for OneUser {
    type Identity = ();

    async fn nothing(self, _: &str) -> Verdict<Self> {
        Verdict::Refused(self)
    }

    async fn offered(&mut self, _: &str, _: Credential) -> bool {
        true
    }

    async fn proven(self, _: &str, credential: Credential) -> Verdict<Self> {
        match credential {
            Credential::Key(known) if known.key_data() == key(USER).public_key().key_data() => {
                Verdict::Accepted(Acceptance { identity: (), ends: self.ends, banner: self.banner })
            }
            _ => Verdict::Refused(self),
        }
    }
}

/// Runs a server's session to its end.
pub fn serve<S>(server: Server, stream: S, user: OneUser) -> JoinHandle<Result<(), TransportError>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        match server.accept(stream, user, WITHIN).await? {
            Some(mut entered) => entered.session.ended().await,
            None => Ok(()),
        }
    })
}

/// A server that is running when this returns, and a future for its side.
pub fn server<S>(server: Server, stream: S) -> impl Future<Output = Side>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, packets) = queues();
    let end = serve(server, stream, OneUser { ends, banner: None });
    async { Side { packets, end } }
}

/// A client that logs in and runs until its session ends.
pub fn dial<S>(
    config: russh_client::Config,
    stream: S,
    ends: TransportEnds,
) -> JoinHandle<Result<(), TransportError>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Client { config: config.into() };
    let peer = Peer::new(key(HOST).public_key().clone(), ends);
    tokio::spawn(async move {
        let login = async { client.connect(stream, peer, WITHIN).await?.log_in("api", user()).await };
        match login.await {
            Ok(mut session) => session.ended().await,
            Err(LoginError::Transport(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    })
}

pub async fn client<S>(config: russh_client::Config, stream: S) -> Side
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
    let server = server(usual(), a);
    (client(client_config(), b).await, server.await)
}

/// A session must have ended cleanly.
pub async fn wait(end: JoinHandle<Result<(), TransportError>>) {
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
pub async fn recording<S>(
    config: russh_client::Config,
    stream: S,
    ends: TransportEnds,
) -> (Seen, russh_client::Handle<Recorder>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seen = Seen::default();
    let recorder = Recorder { seen: Arc::clone(&seen), ends: Some(ends) };
    (seen, russh_client::connect_stream(config.into(), stream, recorder).await.expect("connected"))
}

/// Logs a recording client in.
pub async fn log_in(client: &mut russh_client::Handle<Recorder>) {
    let key = russh::keys::PrivateKeyWithHashAlg::new(user(), None);
    assert!(client.authenticate_publickey("api", key).await.expect("an answer").success());
}

/// A client that logs in, runs until its session ends, and tells what it sees.
pub async fn recording_client<S>(config: russh_client::Config, stream: S) -> (Seen, Side)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, packets) = queues();
    let (seen, mut client) = recording(config, stream, ends).await;
    log_in(&mut client).await;
    (seen, Side { packets, end: tokio::spawn(async move { client.await.map_err(failed) }) })
}

pub struct Recorder {
    seen: Seen,
    ends: Option<TransportEnds>,
}

impl russh_client::Handler for Recorder {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &russh::Names,
        _: &mut russh_client::Session,
    ) -> Result<(), Self::Error> {
        let mut seen = self.seen.lock().expect("seen");
        seen.extend(["key exchange".to_owned(), format!("cipher: {}", names.cipher.as_ref())]);
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut russh_client::Session) -> Result<(), Self::Error> {
        self.seen.lock().expect("seen").push(format!("banner: {banner}"));
        Ok(())
    }

    async fn auth_succeeded(&mut self, session: &mut russh_client::Session) -> Result<(), Self::Error> {
        self.seen.lock().expect("seen").push("success".to_owned());
        if let Some((received, to_send)) = self.ends.take() {
            session.take_over(received, to_send);
        }
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: russh_client::DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        if let russh_client::DisconnectReason::ReceivedDisconnect(told) = reason {
            let told = format!("goodbye: {:?}, {}", told.reason_code, told.message);
            self.seen.lock().expect("seen").push(told);
        }
        Ok(())
    }
}

/// A KEXINIT in the clear, with these lists of names.
pub fn kexinit(lists: [&str; 10]) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([0; 16]);
    for list in lists {
        payload.extend((list.len() as u32).to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (5 + payload.len() + 4).next_multiple_of(8) - (5 + payload.len() + 4);
    let mut packet = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
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
