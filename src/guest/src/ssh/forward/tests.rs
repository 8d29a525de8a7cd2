//! Forwarding between two ends of a connection, with real sockets.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener as StdListener;

use sparks_ssh::keys::{HostPort, Permissions};
use sparks_ssh::mux::{Channel, Connection, GlobalReply, Incoming, Limits, OpenFailure, Opener};
use sparks_ssh::wire::OpenReason;
use sparks_ssh::{Packets, QUEUE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::*;
use crate::users::User;

/// A port at which nobody listens: tcpmux, which nobody has.
const CLOSED: u16 = 1;

/// The client's end of a connection whose other end forwards.
struct Client {
    opener: Opener,
    incoming: Connection,
}

fn run(permissions: Permissions, test: impl AsyncFnOnce(Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (up, received) = mpsc::channel(QUEUE);
        let (down, sent) = mpsc::channel(QUEUE);
        let client = Packets { incoming: sent, outgoing: up };
        let server = Packets { incoming: received, outgoing: down };
        let (incoming, opener, driver) = Connection::start(client, Limits::default());
        spawn_local(driver.run());
        serve(server, permissions);
        test(Client { opener, incoming }).await;
    });
}

fn serve(packets: Packets, permissions: Permissions) {
    let (mut requests, opener, driver) = Connection::start(packets, Limits::default());
    spawn_local(driver.run());
    let user = User { name: "root".into(), uid: 0, gid: 0, groups: vec![0], home: "/".into(), shell: None };
    let mut forwarding = Forwarding::new(Rc::new(Login { user, permissions, opener, addresses: None }));
    spawn_local(async move {
        while let Some(incoming) = requests.next().await {
            match incoming {
                Incoming::Open(request) => forwarding.open(request),
                Incoming::Global(request) => forwarding.global(request),
            }
        }
    });
}

impl Client {
    async fn open(&self, port: u16) -> Result<Channel, OpenFailure> {
        let host = Bytes::from_static(b"localhost");
        let kind = ChannelKind::DirectTcpip {
            host,
            port: port.into(),
            originator: Bytes::new(),
            originator_port: 0,
        };
        self.opener.open(kind).await
    }

    /// The port that is listened at.
    async fn listen(&self, address: &'static str, port: u16) -> Option<u16> {
        let address = Bytes::from_static(address.as_bytes());
        match self.opener.global(GlobalKind::TcpipForward { address, port: port.into() }).await.unwrap() {
            GlobalReply::Success(mut reply) if port == 0 => {
                Some(u16::try_from(bytes::Buf::get_u32(&mut reply)).unwrap())
            }
            GlobalReply::Success(reply) => {
                assert!(reply.is_empty());
                Some(port)
            }
            GlobalReply::Failure => None,
        }
    }

    async fn done(&self, kind: GlobalKind) -> bool {
        matches!(self.opener.global(kind).await.unwrap(), GlobalReply::Success(_))
    }

    /// What the other end opens.
    async fn accept(&mut self) -> (ChannelKind, Channel) {
        match self.incoming.next().await.unwrap() {
            Incoming::Open(request) => (request.kind.clone(), request.accept()),
            Incoming::Global(_) => panic!("it asks for something"),
        }
    }
}

fn listener() -> (StdListener, u16) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn all_of(mut channel: Channel) -> Vec<u8> {
    drop(channel.writer);
    let mut received = Vec::new();
    channel.reader.read_to_end(&mut received).await.unwrap();
    received
}

#[test]
fn each_direction_of_a_connection_ends_alone() {
    run(Permissions::all(), async |client| {
        let (listener, port) = listener();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut channel = client.open(port).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();

        channel.writer.write_all(b"question").await.unwrap();
        channel.writer.shutdown().await.unwrap();
        let mut question = Vec::new();
        socket.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        socket.write_all(b"answer").await.unwrap();
        drop(socket);
        assert_eq!(all_of(channel).await, b"answer");
    });
}

#[test]
fn a_connection_that_the_client_closes_is_closed() {
    run(Permissions::all(), async |client| {
        let (listener, port) = listener();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let channel = client.open(port).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        drop(channel);
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
        // Writing is refused some time after the other end has gone for good.
        while socket.write_all(&[0; 4096]).await.is_ok() {}
    });
}

#[test]
fn a_connection_that_nobody_reads_does_not_hold_up_another_one() {
    run(Permissions::all(), async |client| {
        let (listener, port) = listener();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut stalled = client.open(port).await.unwrap();
        let (stalled_socket, _) = listener.accept().await.unwrap();
        let full = spawn_local(async move {
            // More than any window and any socket take.
            let _ = stalled.writer.write_all(&vec![0; 64 << 20]).await;
        });
        let mut open = client.open(port).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        for _ in 0..100 {
            open.writer.write_all(b"ping").await.unwrap();
            let mut ping = [0; 4];
            socket.read_exact(&mut ping).await.unwrap();
        }
        assert!(!full.is_finished());
        full.abort();
        drop(stalled_socket);
    });
}

#[test]
fn a_port_that_was_left_to_us_is_told_and_connections_name_it() {
    run(Permissions::all(), async |mut client| {
        let port = client.listen("localhost", 0).await.unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (kind, mut channel) = client.accept().await;
        let ChannelKind::ForwardedTcpip { address, port: told, originator, originator_port } = kind else {
            panic!("{kind:?}")
        };
        assert_eq!((&address[..], told), (&b"localhost"[..], port.into()));
        let from = socket.local_addr().unwrap();
        assert_eq!((&originator[..], originator_port), (&b"127.0.0.1"[..], from.port().into()));
        channel.writer.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
    });
}

#[test]
fn localhost_is_this_machine_alone_and_nothing_is_every_address() {
    run(Permissions::all(), async |client| {
        // Every 127.x.y.z is this machine, but only this one is bound to.
        let local = client.listen("localhost", 0).await.unwrap();
        assert!(TcpStream::connect(("127.0.0.2", local)).await.is_err());
        for everywhere in ["", "*"] {
            let port = client.listen(everywhere, 0).await.unwrap();
            TcpStream::connect(("127.0.0.2", port)).await.unwrap();
        }
        let one = client.listen("127.0.0.2", 0).await.unwrap();
        TcpStream::connect(("127.0.0.2", one)).await.unwrap();
        assert!(TcpStream::connect(("127.0.0.1", one)).await.is_err());
    });
}

#[test]
fn a_cancelled_port_is_free_and_its_connections_go_on() {
    run(Permissions::all(), async |mut client| {
        let port = client.listen("localhost", 0).await.unwrap();
        assert_eq!(client.listen("localhost", port).await, None);
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, mut channel) = client.accept().await;
        let cancel = || GlobalKind::CancelTcpipForward {
            address: Bytes::from_static(b"localhost"),
            port: port.into(),
        };
        assert!(client.done(cancel()).await);
        assert!(!client.done(cancel()).await);
        channel.writer.write_all(b"still").await.unwrap();
        let mut still = [0; 5];
        socket.read_exact(&mut still).await.unwrap();
        assert_eq!(client.listen("localhost", port).await, Some(port));
    });
}

#[test]
fn sockets_are_forwarded_in_both_directions() {
    run(Permissions::all(), async |mut client| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("theirs");
        let name = Bytes::copy_from_slice(path.as_os_str().as_bytes());
        let forward = GlobalKind::StreamlocalForward { path: name.clone() };
        assert!(client.done(forward.clone()).await);
        assert!(!client.done(forward).await);
        let mut socket = UnixStream::connect(&path).await.unwrap();
        let (kind, channel) = client.accept().await;
        assert_eq!(kind, ChannelKind::ForwardedStreamlocal { path: name.clone() });
        socket.write_all(b"up").await.unwrap();
        drop(socket);
        assert_eq!(all_of(channel).await, b"up");
        assert!(client.done(GlobalKind::CancelStreamlocalForward { path: name }).await);
        assert!(!path.exists());

        let path = scratch.path().join("ours");
        let listener = UnixListener::bind(&path).unwrap();
        let name = Bytes::copy_from_slice(path.as_os_str().as_bytes());
        let channel = client.opener.open(ChannelKind::DirectStreamlocal { path: name }).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"down").await.unwrap();
        drop(socket);
        assert_eq!(all_of(channel).await, b"down");
    });
}

#[test]
fn one_connection_listens_at_so_many_places_and_no_more() {
    run(Permissions::all(), async |client| {
        let first = client.listen("127.0.0.1", 0).await.unwrap();
        for _ in 1..MAX_LISTENERS {
            client.listen("127.0.0.1", 0).await.unwrap();
        }
        assert_eq!(client.listen("127.0.0.1", 0).await, None);
        let path = Bytes::from_static(b"/nowhere/socket");
        assert!(!client.done(GlobalKind::StreamlocalForward { path }).await);
        let address = Bytes::from_static(b"127.0.0.1");
        assert!(client.done(GlobalKind::CancelTcpipForward { address, port: first.into() }).await);
        assert!(client.listen("127.0.0.1", 0).await.is_some());
    });
}

#[test]
fn a_restricted_key_listens_only_where_it_may() {
    // An address that nothing else here listens at, and a port that the kernel gives to nobody by itself.
    let (place, port) = ("127.0.0.77", 20_777);
    let only = HostPort { host: place.into(), port: Some(port) };
    let permissions = Permissions { permit_listen: vec![only], ..Permissions::all() };
    run(permissions, async |client| {
        assert_eq!(client.listen("", port).await, None);
        assert_eq!(client.listen("localhost", port).await, None);
        assert_eq!(client.listen(place, 0).await, None);
        let path = Bytes::from_static(b"/tmp/never");
        assert!(!client.done(GlobalKind::StreamlocalForward { path }).await);
        assert_eq!(client.listen(place, port).await, Some(port));
    });
    run(Permissions::none(), async |client| {
        assert_eq!(client.listen("localhost", 0).await, None);
        let refused = client.open(port).await.map(|_| ()).unwrap_err();
        let OpenFailure::Refused { reason, .. } = refused else { panic!("{refused}") };
        assert_eq!(reason, OpenReason::AdministrativelyProhibited);
    });
}

#[test]
fn a_connection_that_cannot_be_made_says_why() {
    run(Permissions::all(), async |client| {
        let refused = client.open(CLOSED).await.map(|_| ()).unwrap_err();
        let OpenFailure::Refused { reason, text } = refused else { panic!("{refused}") };
        assert_eq!((reason, text.as_str()), (OpenReason::ConnectFailed, "Connection refused"));
    });
}
