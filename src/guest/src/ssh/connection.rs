//! The connection protocol of one login: what the client opens and asks.

use std::cell::Cell;
use std::rc::Rc;

use sparks_ssh::mux::{Connection, Driver, GlobalRequest, Incoming, OpenRequest};
use sparks_ssh::wire::{ChannelKind, GlobalKind, OpenReason};
use tokio::task::spawn_local;

use super::SshError;
use super::forward::Forwarding;
use super::login::Login;
use super::session::{self, Host};

/// So many sessions at a time in one connection. sshd's ten are too few for editors.
const MOST_SESSIONS: usize = 256;

/// Serves a login until the transport has ended.
///
/// # Errors
/// [`SshError::Connection`] when the client broke the protocol.
pub async fn serve(mut requests: Connection, driver: Driver, login: Rc<Login>) -> Result<(), SshError> {
    let driver = spawn_local(driver.run());
    let mut client = Client {
        host: Rc::new(Host::new(login.clone())),
        forwarding: Forwarding::new(login),
        sessions: Rc::default(),
        no_more_sessions: false,
    };
    while let Some(incoming) = requests.next().await {
        match incoming {
            Incoming::Open(request) => client.open(request),
            Incoming::Global(request) => client.global(request),
        }
    }
    // A driver that was aborted, which nobody does, has nothing to say.
    Ok(driver.await.unwrap_or(Ok(()))?)
}

struct Client {
    host: Rc<Host>,
    forwarding: Forwarding,
    sessions: Rc<Cell<usize>>,
    no_more_sessions: bool,
}

impl Client {
    fn open(&mut self, request: OpenRequest) {
        match request.kind {
            ChannelKind::Session => self.session(request),
            ChannelKind::DirectTcpip { .. } | ChannelKind::DirectStreamlocal { .. } => {
                self.forwarding.open(request);
            }
            _ => request.reject(OpenReason::UnknownChannelType, "this server opens no such channel"),
        }
    }

    fn session(&self, request: OpenRequest) {
        if self.no_more_sessions {
            let reason = OpenReason::AdministrativelyProhibited;
            return request.reject(reason, "the client itself asked for no more sessions");
        }
        if self.sessions.get() >= MOST_SESSIONS {
            return request.reject(OpenReason::ResourceShortage, "too many sessions in one connection");
        }
        let place = Place::take(&self.sessions);
        let (channel, host) = (request.accept(), self.host.clone());
        spawn_local(async move {
            session::serve(channel, host).await;
            drop(place);
        });
    }

    fn global(&mut self, request: GlobalRequest) {
        match request.kind {
            GlobalKind::NoMoreSessions => {
                self.no_more_sessions = true;
                request.reply(true, bytes::Bytes::new());
            }
            GlobalKind::TcpipForward { .. }
            | GlobalKind::CancelTcpipForward { .. }
            | GlobalKind::StreamlocalForward { .. }
            | GlobalKind::CancelStreamlocalForward { .. } => self.forwarding.global(request),
            // Dropped, it is answered with a failure.
            _ => drop(request),
        }
    }
}

/// One of the sessions that a connection may have.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(sessions: &Rc<Cell<usize>>) -> Self {
        sessions.set(sessions.get() + 1);
        Self(sessions.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
