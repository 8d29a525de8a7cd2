//! Connections that come in and are opened towards the client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sparks_ssh::mux::Opener;
use sparks_ssh::wire::ChannelKind;
use tokio::task::{AbortHandle, spawn_local};

use super::relay::relay;
use super::socket::{Listener, Socket};

/// How long nothing is accepted after that has failed, most likely for want of file descriptors.
const RESPITE: Duration = Duration::from_millis(100);

/// A listener at work, which stops when this is dropped. The connections that it has accepted go on.
#[derive(Debug)]
pub struct Accepting(AbortHandle);

impl Accepting {
    /// Opens a channel of that kind for each connection.
    pub fn start(
        listener: Listener,
        opener: Opener,
        kind: impl Fn(Option<SocketAddr>) -> ChannelKind + 'static,
    ) -> Self {
        Self::spawn(async move {
            loop {
                let (socket, peer) = next(&listener).await;
                spawn_local(pass_on(socket, opener.clone(), kind(peer)));
            }
        })
    }

    /// Does so for the first connection only, of whichever listener it comes from.
    pub fn start_once(
        listeners: Vec<Listener>,
        opener: Opener,
        kind: impl FnOnce(Option<SocketAddr>) -> ChannelKind + 'static,
    ) -> Self {
        Self::spawn(async move {
            let (socket, peer) = first(&listeners).await;
            drop(listeners);
            spawn_local(pass_on(socket, opener, kind(peer)));
        })
    }

    fn spawn(work: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(work).abort_handle())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn next(listener: &Listener) -> (Socket, Option<SocketAddr>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // It had gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(RESPITE).await,
        }
    }
}

async fn first(listeners: &[Listener]) -> (Socket, Option<SocketAddr>) {
    let mut accepts: Vec<_> = listeners.iter().map(|listener| Box::pin(next(listener))).collect();
    std::future::poll_fn(|context| {
        for accept in &mut accepts {
            if let std::task::Poll::Ready(accepted) = accept.as_mut().poll(context) {
                return std::task::Poll::Ready(accepted);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// A client that opens no channel for it, or too few, closes the connection.
async fn pass_on(socket: Socket, opener: Opener, kind: ChannelKind) {
    if let Ok(channel) = opener.open(kind).await {
        relay(socket, channel).await;
    }
}
