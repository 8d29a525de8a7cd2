//! Who comes, as the gateway tells the guest.
//!
//! The gateway logs in with a key of its own. Its first packet after that is this global request, and all that
//! follows are the client's packets.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use sparks_ssh::keys::Permissions;
use sparks_ssh::wire::{GlobalKind, Malformed, Message, Reader, Writer};

/// Name of the global request.
pub const NAME: &[u8] = b"context@sparks.loop.work";

/// What the guest must know of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Where the client comes from.
    pub client: SocketAddr,
    /// Where it was received: the first half of its connection, as it sees it.
    pub server: SocketAddr,
    /// What it may do.
    pub permissions: Permissions,
    /// Fingerprint and comment of its key, for the log.
    pub key: String,
}

/// A first packet that is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Something else came first.
    #[error("the first packet is not {}", String::from_utf8_lossy(NAME))]
    Other,
    /// The packet is broken.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The JSON is broken, or of another version.
    #[error("the context cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
}

impl Context {
    /// The packet that tells it.
    ///
    /// # Errors
    /// None in practice: there is nothing in it that JSON can't say.
    pub fn packet(&self) -> Result<Bytes, ContextError> {
        let json = serde_json::to_vec(self)?;
        let mut payload = Writer::new();
        payload.string(&json);
        let kind = GlobalKind::Unknown { name: Bytes::from_static(NAME), payload: payload.finish() };
        Ok(Message::GlobalRequest { want_reply: false, kind }.encode())
    }

    /// Reads the packet.
    ///
    /// # Errors
    /// [`ContextError`]; a connection that begins with something else must be ended.
    pub fn from_packet(packet: Bytes) -> Result<Self, ContextError> {
        match Message::parse(packet)? {
            Message::GlobalRequest { kind: GlobalKind::Unknown { name, payload }, .. } if name == NAME => {
                Ok(serde_json::from_slice(&Reader::new(payload).string()?)?)
            }
            _ => Err(ContextError::Other),
        }
    }
}

