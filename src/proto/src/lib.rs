//! Wire types between the node agent and the guest.
//!
//! The guest listens on an abstract Unix socket in its pod's network namespace ([`CONTROL_SOCKET`]); the agent
//! enters that namespace and dials it. Each side authenticates the other by `SO_PEERCRED`: the agent accepts only
//! the pod's PID 1, the guest only a peer outside its own PID namespace (such a peer's pid reads as 0). Messages are
//! JSON behind a 32-bit big-endian length of at most [`MAX_MESSAGE`] bytes.
//!
//! Whatever a guest says is a tenant's word: the agent lets it change nothing but that one Spark's status.

mod codec;
mod message;

pub use codec::{CodecError, read, write};
pub use message::{
    Computer, FromGuest, Service, ServiceState, SparkName, SshAnswer, SshQuestion, SshServer, ToGuest,
};

/// Name of the abstract Unix socket (without the leading NUL) on which the guest listens.
pub const CONTROL_SOCKET: &str = "sparks-guest";

/// Version of this protocol; a guest that says another one in [`FromGuest::Hello`] is left alone.
pub const VERSION: u32 = 1;

/// Largest message, in bytes, that either side sends or accepts.
pub const MAX_MESSAGE: usize = 1 << 20;
