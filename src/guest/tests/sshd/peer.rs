//! A client of our own, for what OpenSSH's never says.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use sparks_ssh::mux::{Channel, Connection, Limits, Opener};
use sparks_ssh::transport::ssh_key::private::Ed25519Keypair;
use sparks_ssh::transport::{Client, Peer as Transport, PrivateKey, Session as Login};
use sparks_ssh::wire::{ChannelKind, RequestKind};
use tokio::net::TcpStream;

use super::{PATIENCE, Sshd};

/// A login.
pub struct Peer {
    /// Opens channels.
    pub opener: Opener,
    /// What the server asks.
    pub connection: Connection,
    _login: Login,
}

impl Peer {
    /// Logs in with a key, after which `first` is the first packet.
    pub async fn login(sshd: &Sshd, key: &Path, first: Option<bytes::Bytes>) -> Self {
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let (ends, packets) = sparks_ssh::queues();
        let transport = Transport::new(host_key.public_key().clone(), ends);
        let stream = TcpStream::connect(("127.0.0.1", sshd.port)).await.unwrap();
        let stranger = Client::default().connect(stream, transport, PATIENCE).await.unwrap();
        let key = PrivateKey::read_openssh_file(key).unwrap();
        let login = stranger.log_in("root", key.into()).await.unwrap();
        if let Some(first) = first {
            packets.outgoing.send(first).await.unwrap();
        }
        let (connection, opener, driver) = Connection::start(packets, Limits::default());
        tokio::spawn(driver.run());
        Self { opener, connection, _login: login }
    }

    /// Opens a session.
    pub async fn session(&self) -> Session {
        Session { channel: self.opener.open(ChannelKind::Session).await.unwrap(), said: String::new() }
    }
}

/// A session.
pub struct Session {
    /// Its channel.
    pub channel: Channel,
    said: String,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// With that exit status.
    Status(u32),
    /// By that signal.
    Signal(String),
    /// It didn't say.
    Unknown,
}

impl Session {
    /// Asks for something, and whether it was done.
    pub async fn ask(&self, kind: RequestKind) -> bool {
        self.channel.control.request_reply(kind).await.unwrap()
    }

    /// Runs a command.
    pub async fn exec(&self, command: &str) -> bool {
        self.ask(RequestKind::Exec { command: bytes::Bytes::copy_from_slice(command.as_bytes()) }).await
    }

    /// Waits for that text in the output.
    pub async fn expect(&mut self, text: &str) {
        while !self.said.contains(text) {
            let chunk = self.channel.reader.next().await;
            let chunk = chunk.unwrap_or_else(|| panic!("no {text:?} in {:?}", self.said));
            self.said.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits for the end; all output comes with it.
    pub async fn end(mut self) -> (End, String) {
        while let Some(chunk) = self.channel.reader.next().await {
            self.said.push_str(&String::from_utf8_lossy(&chunk));
        }
        let mut end = End::Unknown;
        while let Some(request) = self.channel.requests.next().await {
            match &request.kind {
                RequestKind::ExitStatus { status } => end = End::Status(*status),
                RequestKind::ExitSignal { name, .. } => {
                    end = End::Signal(String::from_utf8_lossy(name).into_owned());
                }
                _ => {}
            }
        }
        (end, self.said)
    }
}
