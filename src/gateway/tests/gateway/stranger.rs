//! Clients that are there and go no further.

use sparks_ssh::{
    Packets, queues,
    transport::{self, Client, Peer, Session},
};
use tokio::net::TcpStream;

use super::{GATEWAY_HOST, Gateway, PATIENCE, key};

/// A client that offers keys and signs nothing.
pub struct Stranger(transport::Stranger);

impl Stranger {
    pub async fn connect(gateway: &Gateway) -> Self {
        Self(connect(gateway).await.0)
    }

    /// Whether a key is accepted, so that it would only have to be signed for.
    pub async fn offers(&mut self, name: &str, seed: u8) -> bool {
        // Who was shown out gets no answer.
        self.0.offer(name, key(seed).public_key().clone()).await.unwrap_or(false)
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A client that logs in and does nothing.
pub struct Idle {
    packets: Packets,
    _session: Session,
}

impl Idle {
    pub async fn log_in(gateway: &Gateway, name: &str, seed: u8) -> Self {
        let (stranger, packets) = connect(gateway).await;
        Self { packets, _session: stranger.log_in(name, key(seed).into()).await.unwrap() }
    }

    pub fn is_closed(&self) -> bool {
        self.packets.outgoing.is_closed()
    }
}

async fn connect(gateway: &Gateway) -> (transport::Stranger, Packets) {
    let (ends, packets) = queues();
    let peer = Peer::new(key(GATEWAY_HOST).public_key().clone(), ends);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    (Client::default().connect(stream, peer, PATIENCE).await.unwrap(), packets)
}
