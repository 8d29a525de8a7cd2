//! SSH above the transport.
//!
//! The [`transport`] (key exchange, ciphers, authentication, rekeying) hands over whole packets of the connection
//! protocol (RFC 4254) once a peer is authenticated. The rest works on those packets: [`mux`] is one
//! end of a connection, with flow control from end to end; [`wire`] reads and writes the messages. A relay needs
//! neither: it crosses the packets of two transports.

pub mod context;
pub mod keys;
pub mod mux;
pub mod transport;
pub mod wire;

#[cfg(test)]
mod random;

use bytes::Bytes;
use tokio::sync::mpsc;

/// How many packets may wait in one direction. Small, so that a slow peer is felt by the sender at once.
pub const QUEUE: usize = 8;

/// The connection protocol of one authenticated transport: payloads whose first byte is 80 or above.
#[derive(Debug)]
pub struct Packets {
    /// From the peer; ends when the transport does.
    pub incoming: mpsc::Receiver<Bytes>,
    /// To the peer; the transport disconnects once all senders are dropped and what they sent is written.
    pub outgoing: mpsc::Sender<Bytes>,
}

/// The two ends that a transport is given: what it received goes into the first, what it shall send comes out of the
/// second.
pub type TransportEnds = (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>);

/// Queues between a transport and whoever speaks the connection protocol above it.
#[must_use]
pub fn queues() -> (TransportEnds, Packets) {
    let (received, incoming) = mpsc::channel(QUEUE);
    let (outgoing, to_send) = mpsc::channel(QUEUE);
    ((received, to_send), Packets { incoming, outgoing })
}

/// The ends for two transports, each of which sends what the other one received.
#[must_use]
pub fn crossed() -> (TransportEnds, TransportEnds) {
    let (a_received, b_sends) = mpsc::channel(QUEUE);
    let (b_received, a_sends) = mpsc::channel(QUEUE);
    ((a_received, a_sends), (b_received, b_sends))
}
