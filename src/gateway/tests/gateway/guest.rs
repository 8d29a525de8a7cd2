//! Guests: what a Spark's SSH server is to the gateway.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use sparks_ssh::{
    Packets,
    context::Context,
    mux::{Channel, Connection, Incoming, Limits},
    queues,
    transport::{Acceptance, Authenticator, Credential, Methods, Server, Verdict},
    wire::{ChannelKind, RequestKind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{GATEWAY_LOGIN, PATIENCE, key, public};

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// What it should.
    Serve,
    /// It has another host key than its Spark says.
    Impostor,
    /// It accepts connections and says nothing.
    Silent,
    /// It says what is no SSH.
    Garbage,
    /// It begins as SSH and goes on with a packet of 2 GiB.
    Huge,
    /// It doesn't know the gateway's key.
    Stranger,
}

/// A guest that runs.
pub struct Guest {
    /// The end of each connection: who it was.
    pub ended: mpsc::UnboundedReceiver<Option<String>>,
    /// The user and the context of each connection.
    pub entered: mpsc::UnboundedReceiver<(String, Option<Context>)>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Guest {
    pub async fn start(address: SocketAddr, seed: u8, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (enters, entered) = mpsc::unbounded_channel();
        let (ends, ended) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (enters, ends) = (enters.clone(), ends.clone());
                connections.spawn(async move {
                    let user = connection(stream, seed, behaviour, enters).await;
                    let _ = ends.send(user);
                });
            }
        });
        Self { ended, entered, connections, _tasks: tasks }
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

type Enters = mpsc::UnboundedSender<(String, Option<Context>)>;

async fn connection(mut stream: TcpStream, seed: u8, behaviour: Behaviour, enters: Enters) -> Option<String> {
    match behaviour {
        Behaviour::Silent => {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            None
        }
        Behaviour::Garbage => {
            let _ = stream.write_all(&[b'x'; 100_000]).await;
            None
        }
        Behaviour::Huge => {
            let _ = stream.write_all(b"SSH-2.0-x\r\n\x7f\xff\xff\xff\x04").await;
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            None
        }
        Behaviour::Serve | Behaviour::Impostor | Behaviour::Stranger => {
            serve(stream, seed, behaviour, enters).await
        }
    }
}

async fn serve(stream: TcpStream, seed: u8, behaviour: Behaviour, enters: Enters) -> Option<String> {
    let host = if behaviour == Behaviour::Impostor { seed.wrapping_add(50) } else { seed };
    let server = Server::new(vec![key(host)], Vec::new(), Methods::Keys { attempts: 10 });
    let login = Login { knows_gateway: behaviour != Behaviour::Stranger };
    let mut entered = server.accept(stream, login, PATIENCE).await.ok()??;
    let (user, by_gateway, packets) = entered.identity;
    let _ = speak(packets, user.clone(), by_gateway, enters).await;
    let _ = entered.session.ended().await;
    Some(user)
}

struct Login {
    knows_gateway: bool,
}

impl Authenticator for Login {
    /// The user, whether it is by the gateway, and its packets.
    type Identity = (String, bool, Packets);

    async fn nothing(self, _: &str) -> Verdict<Self> {
        Verdict::Refused(self)
    }

    async fn offered(&mut self, _: &str, _: Credential) -> bool {
        true
    }

    async fn proven(self, user: &str, credential: Credential) -> Verdict<Self> {
        let Credential::Key(key) = credential else { return Verdict::Refused(self) };
        let by_gateway = key.to_openssh().is_ok_and(|line| line == public(GATEWAY_LOGIN));
        if by_gateway && !self.knows_gateway {
            return Verdict::Refused(self);
        }
        let (ends, packets) = queues();
        let identity = (user.to_owned(), by_gateway, packets);
        Verdict::Accepted(Acceptance { identity, ends, banner: None })
    }
}

/// The connection protocol, after the context that must come first from a gateway.
async fn speak(mut packets: Packets, user: String, by_gateway: bool, enters: Enters) -> Option<()> {
    let context = match by_gateway {
        true => Some(Context::from_packet(packets.incoming.recv().await?).unwrap()),
        false => None,
    };
    let _ = enters.send((user, context.clone()));
    let context = Arc::new(context);
    let (mut connection, _opener, driver) = Connection::start(packets, Limits::default());
    let mut sessions = JoinSet::new();
    let requests = async {
        while let Some(incoming) = connection.next().await {
            if let Incoming::Open(request) = incoming
                && request.kind == ChannelKind::Session
            {
                sessions.spawn(session(request.accept(), context.clone()));
            }
        }
    };
    tokio::join!(requests, driver.run()).1.ok()
}

async fn session(channel: Channel, context: Arc<Option<Context>>) {
    let Channel { mut reader, stderr, mut writer, mut requests, control } = channel;
    drop(stderr);
    let command = loop {
        let Some(request) = requests.next().await else { return };
        match &request.kind {
            RequestKind::Exec { command } => {
                let command = String::from_utf8(command.to_vec()).unwrap();
                request.reply(true);
                break command;
            }
            RequestKind::Pty(_) | RequestKind::Env { .. } => request.reply(true),
            _ => request.reply(false),
        }
    };
    let mut errors = writer.extended();
    let status = match command.split_once(' ').unwrap_or((&command, "")) {
        ("echo", text) => {
            writer.write_all(format!("{text}\n").as_bytes()).await.unwrap();
            0
        }
        ("complain", text) => {
            errors.write_all(format!("{text}\n").as_bytes()).await.unwrap();
            1
        }
        ("exit", status) => status.parse().unwrap(),
        ("cat", _) => {
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            0
        }
        ("who", _) => {
            let json = serde_json::to_vec(&*context).unwrap();
            writer.write_all(&json).await.unwrap();
            0
        }
        ("wait", _) => {
            writer.write_all(&Bytes::from_static(b"waiting\n")).await.unwrap();
            control.closed().await;
            return;
        }
        // The connection, not the session, ends.
        ("die", _) => {
            writer.write_all(b"dying\n").await.unwrap();
            panic!("as it was asked to");
        }
        _ => 127,
    };
    drop((errors, writer));
    let _ = control.exit_status(status).await;
    control.close();
    control.closed().await;
}
