//! One SSH connection: the process that PID 1 starts for a socket, or that `kubectl exec` starts on its standard input
//! and output.
//!
//! It begins as the root of the Spark, so that it can become whoever logs in. From then on all of it is that user:
//! every program, forward and file is the user's, and nothing in here has a right that the user lacks.

mod account;
mod auth;
mod config;
mod connection;
mod descriptor;
mod login;
mod process;
mod stop;
mod transport;

pub mod admit;
pub mod agent;
pub mod forward;
pub mod session;
pub mod sftp;
pub mod x11;

use std::io;

use tokio::task::LocalSet;

use crate::reception;

/// Exit code of a connection that failed, as that of ssh(1).
pub const FAILED_EXIT: u8 = 255;

/// What a connection comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// This file descriptor, a TCP socket.
    Connection(i32),
    /// Standard input and output.
    Stdio,
}

/// Why a connection could not be served, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The process could not be set up.
    #[error("the connection cannot be served: {0}")]
    Begin(#[from] io::Error),
    /// PID 1 did not say how.
    #[error(transparent)]
    Ask(#[from] reception::AskError),
    /// What it said is of no use.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The transport failed.
    #[error("the connection ended: {0}")]
    Transport(#[from] sparks_ssh::transport::TransportError),
    /// The gateway did not say who comes.
    #[error("the gateway did not say who comes: {0}")]
    Context(#[from] sparks_ssh::context::ContextError),
    /// The connection protocol was broken.
    #[error("the connection ended: {0}")]
    Connection(#[from] sparks_ssh::mux::ConnectionError),
}

/// Serves one connection to its end.
///
/// # Errors
/// [`SshError`].
pub fn main(entrance: Entrance) -> Result<(), SshError> {
    process::prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let result = LocalSet::new().block_on(&runtime, transport::serve(entrance));
    // A name may still be being looked up on a thread of its own, which nobody waits for any more.
    runtime.shutdown_background();
    result
}
