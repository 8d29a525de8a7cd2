//! Who has logged in, as all parts of a connection need to know it.

use std::net::SocketAddr;

use sparks_ssh::keys::Permissions;
use sparks_ssh::mux::Opener;

use crate::users::User;

/// A login. The process is that user.
pub struct Login {
    /// Who.
    pub user: User,
    /// What it may do.
    pub permissions: Permissions,
    /// Opens channels to the client.
    pub opener: Opener,
    /// Between which addresses it came in, if by TCP.
    pub addresses: Option<Addresses>,
}

/// Both ends of the connection that the client made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's.
    pub client: SocketAddr,
    /// Ours, or the gateway's.
    pub server: SocketAddr,
}
