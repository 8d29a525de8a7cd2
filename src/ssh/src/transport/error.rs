use std::io;

/// Why a transport could not be made, or ended early.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TransportError(Box<russh::Error>);

impl TransportError {
    /// Whether the connection was lost, and not that something wrong came by it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        use russh::Error;
        matches!(*self.0, Error::IO(_) | Error::HUP | Error::Disconnect | Error::RecvError | Error::SendError)
    }

    /// Whether the peer has said nothing for too long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(&*self.0, russh::Error::IO(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

/// Not `From`, which would be for everybody.
pub(super) fn failed(error: russh::Error) -> TransportError {
    TransportError(Box::new(error))
}
