//! The end of the Spark, as a connection hears of it: what PID 1 sends to every process.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the client is told.
pub const SENTENCE: &str = "this Spark is being stopped";

/// How long that may hold up the end. A client that is near reads it in a fraction of this; one that doesn't read is
/// waited for no longer.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// The signals that ask for the end. SIGHUP comes with SIGTERM, and would end this process before it has said anything.
pub struct Stop {
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    /// Catches them from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, hang_up: signal(SignalKind::hangup())? })
    }

    /// Until one of them has come.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
