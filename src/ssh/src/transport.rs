//! The transport below the packets: key exchange, ciphers, authentication. It is russh's, which nothing outside of this module names.
//!
//! A session of ours is taken over once it is authenticated: russh keeps the transport and exchanges whole packets
//! of the connection protocol with [`crate::queues`].
//!
//! A relay that crosses the packets of two sessions could wait for itself if both of them had begun a key exchange:
//! each sends nothing until its peer answers, and that answer may be behind packets which the other one can't take.
//! So servers begin key exchanges, clients answer, and an end of a connection receives whether it can send or not.

mod algorithms;
mod clear;
mod client;
mod error;
mod guard;
mod hello;
mod server;
mod session;
mod socket;
#[cfg(test)]
mod tests;

pub use self::{
    clear::turned_away,
    client::{Client, LoginError, Peer, Stranger},
    error::TransportError,
    server::{Acceptance, Authenticator, Credential, Entered, Methods, Server, Verdict},
    session::{Farewell, Reason, Session},
    socket::tune,
};
pub use ssh_key::{self, Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey, PublicKey};

/// How we introduce ourselves. OpenSSH's client says `eow@openssh.com` and `no-more-sessions@openssh.com` only to a server
/// that begins like this (compat.c: SSH_NEW_OPENSSH): without the former, `ssh HOST yes | head` would not end. With a
/// version, because libssh takes none for a mistake.
const ID: &str = "SSH-2.0-OpenSSH_9.9 Sparks";
