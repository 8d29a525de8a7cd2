//! Messages of the connection protocol (RFC 4254 and the extensions in OpenSSH's PROTOCOL file), without any state: an
//! end of a connection and a passive observer parse the same way.
//!
//! Strings are bytes, as they are in the protocol. A known name whose payload doesn't have exactly the known form is
//! kept as `Unknown`, so that whoever answers refuses it like any other name that nobody knows.

mod channel;
mod global;
mod message;
mod primitives;
mod request;

pub use channel::{ChannelKind, OpenReason};
pub use global::GlobalKind;
pub use message::{Message, number};
pub use primitives::{Malformed, Reader, Writer};
pub use request::{Pty, RequestKind, WindowSize};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
