use std::pin::Pin;

use russh::{Disconnect, server::Handle};

use super::error::{TransportError, failed};

type End = Pin<Box<dyn Future<Output = Result<(), russh::Error>> + Send>>;

/// An authenticated transport, of which the end can be waited for again and again.
pub struct Session(Option<End>);

impl Session {
    pub(super) fn new(end: impl Future<Output = Result<(), russh::Error>> + Send + 'static) -> Self {
        Self(Some(Box::pin(end)))
    }

    /// Completes when it has ended. Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError`], the first time, when it ended early.
    pub async fn ended(&mut self) -> Result<(), TransportError> {
        let Some(end) = &mut self.0 else { return Ok(()) };
        let result = end.await;
        self.0 = None;
        result.map_err(failed)
    }
}

/// Why a peer is told to go: RFC 4253, section 11.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// For none of the others.
    ByApplication,
    /// There are as many connections as there can be.
    TooManyConnections,
    /// It is known, and is not to come in.
    NoMoreAuthMethods,
}

impl From<Reason> for Disconnect {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::ByApplication => Self::ByApplication,
            Reason::TooManyConnections => Self::TooManyConnections,
            Reason::NoMoreAuthMethods => Self::NoMoreAuthMethodsAvailable,
        }
    }
}

/// Ends a server's session with a sentence.
#[derive(Clone)]
pub struct Farewell(Handle);

impl Farewell {
    pub(super) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Says it, to a client that is still there. The session ends by itself then.
    pub async fn say(&self, reason: Reason, sentence: &str) {
        // Who has gone needs to be told nothing.
        let _ = self.0.disconnect(reason.into(), sentence.to_owned(), String::new()).await;
    }
}
