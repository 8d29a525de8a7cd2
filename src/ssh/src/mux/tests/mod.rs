//! Two ends back to back, or one end against a peer that says what it wants.

mod bounds;
mod ends;
mod flow;
mod order;
mod random;

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    Packets, QUEUE,
    wire::{ChannelKind, GlobalKind, Message, RequestKind},
};

type Running = JoinHandle<Result<(), ConnectionError>>;

struct End {
    connection: Connection,
    opener: Opener,
    running: Running,
}

fn start(packets: Packets, limits: Limits) -> End {
    let (connection, opener, driver) = Connection::start(packets, limits);
    End { connection, opener, running: tokio::spawn(driver.run()) }
}

/// Two ends of one connection.
fn pair(limits: Limits) -> (End, End) {
    let (to_server, from_client) = mpsc::channel(QUEUE);
    let (to_client, from_server) = mpsc::channel(QUEUE);
    (
        start(Packets { incoming: from_server, outgoing: to_server }, limits.clone()),
        start(Packets { incoming: from_client, outgoing: to_client }, limits),
    )
}

/// A channel between them.
async fn channel(client: &End, server: &mut End) -> (Channel, Channel) {
    let (opened, accepted) = tokio::join!(client.opener.open(ChannelKind::Session), accept(server));
    (opened.unwrap(), accepted)
}

async fn accept(end: &mut End) -> Channel {
    match end.connection.next().await {
        Some(Incoming::Open(request)) => request.accept(),
        other => panic!("no channel is opened: {other:?}"),
    }
}

/// The other end of a connection, packet by packet.
struct Peer {
    sends: mpsc::Sender<Bytes>,
    receives: mpsc::Receiver<Bytes>,
}

/// An end against a peer without manners.
fn against(limits: Limits) -> (Peer, End) {
    let (sends, incoming) = mpsc::channel(QUEUE);
    let (outgoing, receives) = mpsc::channel(QUEUE);
    (Peer { sends, receives }, start(Packets { incoming, outgoing }, limits))
}

impl Peer {
    /// Whether the end still listens.
    async fn send(&self, message: Message) -> bool {
        self.sends.send(message.encode()).await.is_ok()
    }

    async fn receive(&mut self) -> Message {
        Message::parse(self.receives.recv().await.expect("the end still speaks")).unwrap()
    }

    /// What was sent up to now.
    fn received(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.receives.try_recv().ok()).map(|p| Message::parse(p).unwrap()).collect()
    }

    /// Opens a channel by the number `sender`; the peer's number is in the confirmation.
    async fn open(&mut self, sender: u32, window: u32, end: &mut End) -> (u32, Channel) {
        self.send(Message::Open { sender, window, max_packet: 32768, kind: ChannelKind::Session }).await;
        let channel = accept(end).await;
        let Message::OpenConfirmation { recipient, sender: number, .. } = self.receive().await else {
            panic!("not a confirmation");
        };
        assert_eq!(recipient, sender);
        (number, channel)
    }
}

fn env(number: usize) -> RequestKind {
    RequestKind::Env { name: Bytes::from_static(b"N"), value: number.to_string().into() }
}

fn forward(port: u32) -> GlobalKind {
    GlobalKind::TcpipForward { address: Bytes::new(), port }
}

/// Until nobody has anything to do.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
