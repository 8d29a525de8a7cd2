//! Watches the packets of a connection while they pass, and records its sessions. It changes none and delays none.

use std::fmt;

use bytes::Bytes;
use sparks_ssh::wire::{ChannelKind, Message, RequestKind};

use super::{
    RecordError, Recorder,
    cast::Origin,
    channels::Channels,
    session::{Session, Start},
};

/// From where a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The guest.
    Guest,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Guest => "guest",
        })
    }
}

/// Records the sessions of one connection.
pub struct Tap {
    recorder: Recorder,
    origin: Origin,
    required: bool,
    channels: Channels,
}

impl Tap {
    /// A tap on a new connection. `required`: any error of [`Tap::pass`] then ends the connection.
    #[must_use]
    pub fn new(recorder: Recorder, origin: Origin, required: bool) -> Self {
        Self { recorder, origin, required, channels: Channels::default() }
    }

    /// Sees one packet before it is passed on.
    ///
    /// # Errors
    /// [`RecordError`] when recording is required and fails, or when somebody breaks the protocol, so that what belongs
    /// to which session can't be told: the connection must end, and the packet not be passed on.
    pub fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), RecordError> {
        let Ok(message) = Message::parse(packet.clone()) else { return Ok(()) };
        let seen = match from {
            Side::Client => self.client_says(message),
            Side::Guest => self.guest_says(message),
        };
        match seen {
            Err(error) if self.required || error.is_breach() => Err(error),
            Err(error) => {
                tracing::warn!(%error, spark = %self.origin.spark, namespace = %self.origin.namespace, "a session is not recorded further");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The connection is over: all recordings end.
    pub async fn finish(self) {
        for session in self.channels.into_sessions() {
            session.end(&self.recorder).await;
        }
    }

    fn client_says(&mut self, message: Message) -> Result<(), RecordError> {
        match message {
            Message::Open { sender, kind, .. } => {
                let session = (kind == ChannelKind::Session).then(Session::default);
                self.channels.client_opens(sender, session)
            }
            Message::OpenConfirmation { recipient, sender, .. } => {
                self.channels.client_confirms(recipient, sender)
            }
            Message::OpenFailure { recipient, .. } => self.channels.client_refuses(recipient),
            Message::Request { recipient, kind, .. } => self.request(recipient, &kind),
            Message::Close { recipient } => {
                let over = self.channels.client_closes(recipient);
                self.end(over);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn guest_says(&mut self, message: Message) -> Result<(), RecordError> {
        match message {
            Message::Open { sender, .. } => self.channels.guest_opens(sender),
            Message::OpenConfirmation { recipient, sender, .. } => {
                self.channels.guest_confirms(recipient, sender)
            }
            Message::OpenFailure { recipient, .. } => self.channels.guest_refuses(recipient),
            Message::Data { recipient, data } | Message::ExtendedData { recipient, data, .. } => {
                self.of_guest(recipient, |session| session.output(&data))
            }
            Message::Request { recipient, kind: RequestKind::ExitStatus { status }, .. } => {
                self.of_guest(recipient, |session| session.exit(&status.to_string()))
            }
            Message::Request { recipient, kind: RequestKind::ExitSignal { name, .. }, .. } => {
                self.of_guest(recipient, |session| session.exit(&String::from_utf8_lossy(&name)))
            }
            Message::Close { recipient } => {
                let over = self.channels.guest_closes(recipient);
                self.end(over);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn of_guest(
        &mut self,
        client: u32,
        say: impl FnOnce(&mut Session) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        self.channels.of_client_number(client).map_or(Ok(()), say)
    }

    /// What makes a session is for sessions whose number the guest has said. The guest may know a number before this has
    /// seen it, and would obey who guesses it. On channels that the guest has opened there are other requests.
    fn request(&mut self, guest: u32, kind: &RequestKind) -> Result<(), RecordError> {
        let start = Start::of(kind);
        let Some(session) = self.channels.of_guest_number(guest) else {
            let is_of_session = start.is_some() || matches!(kind, RequestKind::Pty(_));
            return if is_of_session { Err(RecordError::NoSession(guest)) } else { Ok(()) };
        };
        match kind {
            RequestKind::Pty(pty) => session.terminal(pty),
            RequestKind::WindowChange(size) => session.resize(*size)?,
            _ => {}
        }
        match start {
            Some(start) => session.start(&self.recorder, &self.origin, &start),
            None => Ok(()),
        }
    }

    fn end(&self, session: Option<Session>) {
        let Some(session) = session else { return };
        let recorder = self.recorder.clone();
        tokio::spawn(async move { session.end(&recorder).await });
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
