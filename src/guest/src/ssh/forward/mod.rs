//! Forwarding: connections that the client makes from inside of the Spark, and connections to ports and sockets of the
//! Spark that are passed on to the client.
//!
//! All of it is done as the user, because the process is. What the login's key may do comes on top of that.

mod accept;
mod bind;
mod connect;
mod relay;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use sparks_ssh::mux::{GlobalRequest, OpenRequest};
use sparks_ssh::wire::{ChannelKind, GlobalKind};
use tokio::task::spawn_local;

pub(super) use accept::Accepting;
pub(super) use bind::{SocketFile, tcp as bind_tcp, unix as bind_unix};
pub(super) use connect::LOOPBACK;
pub(super) use socket::Listener;

use super::login::Login;

/// Most places that one connection listens at. How many connections there may be is the mux's to bound.
const MAX_LISTENERS: usize = 256;

/// What a connection forwards.
pub struct Forwarding {
    login: Rc<Login>,
    listening: Rc<RefCell<Listening>>,
}

/// Everything that is listened on for the client, by what it asked for.
#[derive(Default)]
struct Listening {
    ports: HashMap<(Bytes, u32), Vec<Accepting>>,
    sockets: HashMap<Bytes, (Accepting, SocketFile)>,
}

/// Why nothing is listened on. The client learns only that.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("the key does not permit it")]
    NotPermitted,
    #[error("the connection listens at {MAX_LISTENERS} places already")]
    TooMany,
    #[error("no address")]
    NoAddress,
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Forwarding {
    /// For the connection of that login.
    pub fn new(login: Rc<Login>) -> Self {
        Self { login, listening: Rc::default() }
    }

    /// Connects, and answers once that has succeeded or failed.
    pub fn open(&self, request: OpenRequest) {
        let login = self.login.clone();
        spawn_local(async move {
            match connect::connect(&request.kind, &login.permissions).await {
                Ok(socket) => relay::relay(socket, request.accept()).await,
                Err(error) => request.reject(error.reason(), &error.to_string()),
            }
        });
    }

    /// Begins or ends listening.
    pub fn global(&mut self, request: GlobalRequest) {
        let done = match &request.kind {
            GlobalKind::TcpipForward { .. } => return self.listen_at_port(request),
            GlobalKind::StreamlocalForward { path } => self.listen_at_socket(path).is_ok(),
            GlobalKind::CancelTcpipForward { address, port } => {
                self.listening.borrow_mut().ports.remove(&(address.clone(), *port)).is_some()
            }
            GlobalKind::CancelStreamlocalForward { path } => {
                self.listening.borrow_mut().sockets.remove(path).is_some()
            }
            _ => false,
        };
        request.reply(done, Bytes::new());
    }

    /// In a task of its own, because an address may have to be looked up.
    fn listen_at_port(&self, request: GlobalRequest) {
        let (login, listening) = (self.login.clone(), self.listening.clone());
        spawn_local(async move {
            let GlobalKind::TcpipForward { address, port } = &request.kind else { return };
            let bound = listen_at_port(&login, &listening, address, *port).await;
            let reply = match &bound {
                // Only who left the choice to us is told (RFC 4254, 7.1).
                Ok(bound) if *port == 0 => Bytes::copy_from_slice(&u32::from(*bound).to_be_bytes()),
                _ => Bytes::new(),
            };
            request.reply(bound.is_ok(), reply);
        });
    }

    fn listen_at_socket(&self, path: &Bytes) -> Result<(), ListenError> {
        let permissions = &self.login.permissions;
        // A list of addresses and ports has no sockets in it, as with sshd.
        if !permissions.port_forwarding || !permissions.permit_listen.is_empty() {
            return Err(ListenError::NotPermitted);
        }
        let mut listening = self.listening.borrow_mut();
        listening.check_room()?;
        let (file, listener) = bind_unix(Path::new(OsStr::from_bytes(path)))?;
        let kind = {
            let path = path.clone();
            move |_| ChannelKind::ForwardedStreamlocal { path: path.clone() }
        };
        let accepting = Accepting::start(Listener::Unix(listener), self.login.opener.clone(), kind);
        listening.sockets.insert(path.clone(), (accepting, file));
        Ok(())
    }
}

impl Listening {
    fn check_room(&self) -> Result<(), ListenError> {
        if self.ports.len() + self.sockets.len() < MAX_LISTENERS { Ok(()) } else { Err(ListenError::TooMany) }
    }
}

async fn listen_at_port(
    login: &Login,
    listening: &RefCell<Listening>,
    address: &Bytes,
    port: u32,
) -> Result<u16, ListenError> {
    let host = std::str::from_utf8(address).map_err(|_| ListenError::NoAddress)?;
    if !login.permissions.may_listen(host, port) {
        return Err(ListenError::NotPermitted);
    }
    let port = u16::try_from(port).map_err(|_| ListenError::NoAddress)?;
    let addresses = bind::addresses(host).await?;
    // Nothing is waited for from here on, so that the count holds.
    let mut listening = listening.borrow_mut();
    listening.check_room()?;
    let (bound, listeners) = bind_tcp(&addresses, port)?;
    let accepting = listeners.into_iter().map(|listener| {
        let address = address.clone();
        let kind = move |peer| forwarded(address.clone(), bound, peer);
        Accepting::start(Listener::Tcp(listener), login.opener.clone(), kind)
    });
    listening.ports.insert((address.clone(), bound.into()), accepting.collect());
    Ok(bound)
}

/// The client finds what it asked for by the address as it gave it and by the port that is listened at.
fn forwarded(address: Bytes, port: u16, peer: Option<SocketAddr>) -> ChannelKind {
    let (originator, originator_port) = originator(peer);
    ChannelKind::ForwardedTcpip { address, port: port.into(), originator, originator_port }
}

/// Where a connection comes from, for a channel's opening.
pub(super) fn originator(peer: Option<SocketAddr>) -> (Bytes, u32) {
    peer.map_or((Bytes::from_static(b"unknown"), 0), |peer| {
        (Bytes::from(peer.ip().to_canonical().to_string()), peer.port().into())
    })
}
