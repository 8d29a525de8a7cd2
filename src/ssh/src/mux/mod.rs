//! One end of a connection: channels with flow control from end to end (RFC 4254).
//!
//! One task, the [`Driver`], takes every packet as it comes and never waits for a consumer: data goes into the queue of
//! its channel, and a peer gets its window back only as the consumer reads. So what a channel can occupy is bounded by
//! its window, and a channel that nobody reads stops itself and no other one. What goes out waits in one line where
//! each writer has at most one packet, so that busy channels take turns; a place is taken only by a packet that is
//! there, never by a promise of one.
//!
//! Locks are taken in this order: table of channels, channel, line, slot of a writer. None is held across an await.

mod channel;
mod chunks;
mod connection;
mod control;
mod core;
mod driver;
mod limits;
mod opener;
mod ordered;
mod outbound;
mod packet;
mod reader;
mod requests;
mod table;
mod writer;

pub use connection::{Connection, GlobalAnswer, GlobalRequest, Incoming, Offer, OpenRequest};
pub use control::{Channel, Control};
pub use driver::{ConnectionError, Driver};
pub use limits::Limits;
pub use opener::{GlobalReply, OpenFailure, Opener};
pub use packet::PacketBuf;
pub use reader::ChannelReader;
pub use requests::{Answer, ChannelRequest, Requests};
pub use writer::ChannelWriter;

/// The channel is closed or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct Disconnected;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// No critical section here leaves its data half changed, so that a panic elsewhere in one is no reason for more.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
