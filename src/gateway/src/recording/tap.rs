//! Watches the packets of a connection while they pass, and records its sessions. It changes none and delays none.

use std::collections::HashMap;

use bytes::Bytes;
use sparks_ssh::wire::{ChannelKind, Message, RequestKind};

use super::{
    RecordError, Recorder,
    cast::Origin,
    session::{Session, Start},
};

/// Most sessions of one connection that can be open; the guest allows fewer.
const MAX_SESSIONS: usize = 2048;

/// From where a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The guest.
    Guest,
}

/// Records the sessions of one connection.
pub struct Tap {
    recorder: Recorder,
    origin: Origin,
    required: bool,
    /// By the client's number of the channel, to which all that the guest says is addressed.
    sessions: HashMap<u32, Numbered>,
    /// The guest's number to the client's, for what the client says.
    guest_numbers: HashMap<u32, u32>,
}

#[derive(Default)]
struct Numbered {
    guest: Option<u32>,
    closed_by: Option<Side>,
    session: Session,
}

impl Tap {
    /// A tap on a new connection. `required`: an error of [`Tap::pass`] then ends the connection.
    #[must_use]
    pub fn new(recorder: Recorder, origin: Origin, required: bool) -> Self {
        Self { recorder, origin, required, sessions: HashMap::new(), guest_numbers: HashMap::new() }
    }

    /// Sees one packet before it is passed on.
    ///
    /// # Errors
    /// [`RecordError`] when recording is required and fails: the connection must end, and the packet not be passed on.
    pub fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), RecordError> {
        let Ok(message) = Message::parse(packet.clone()) else { return Ok(()) };
        let seen = match from {
            Side::Client => self.client_says(message),
            Side::Guest => self.guest_says(message),
        };
        match seen {
            Err(error) if self.required => Err(error),
            Err(error) => {
                tracing::warn!(%error, spark = %self.origin.spark, namespace = %self.origin.namespace, "a session is not recorded further");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The connection is over: all recordings end.
    pub async fn finish(mut self) {
        for (_, numbered) in self.sessions.drain() {
            numbered.session.end(&self.recorder).await;
        }
    }

    fn client_says(&mut self, message: Message) -> Result<(), RecordError> {
        match message {
            Message::Open { sender, kind: ChannelKind::Session, .. } => {
                if self.sessions.len() >= MAX_SESSIONS {
                    return Err(RecordError::TooManySessions);
                }
                self.sessions.insert(sender, Numbered::default());
                Ok(())
            }
            Message::Request { recipient, kind, .. } => self.request(recipient, &kind),
            Message::Close { recipient } => {
                if let Some(&client) = self.guest_numbers.get(&recipient) {
                    self.close(client, Side::Client);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn guest_says(&mut self, message: Message) -> Result<(), RecordError> {
        match message {
            Message::OpenConfirmation { recipient, sender, .. } => {
                if let Some(session) = self.sessions.get_mut(&recipient) {
                    session.guest = Some(sender);
                    self.guest_numbers.insert(sender, recipient);
                }
                Ok(())
            }
            Message::OpenFailure { recipient, .. } => {
                self.sessions.remove(&recipient);
                Ok(())
            }
            Message::Data { recipient, data } | Message::ExtendedData { recipient, data, .. } => {
                self.session(recipient).map_or(Ok(()), |session| session.output(&data))
            }
            Message::Request { recipient, kind: RequestKind::ExitStatus { status }, .. } => {
                self.session(recipient).map_or(Ok(()), |session| session.exit(&status.to_string()))
            }
            Message::Request { recipient, kind: RequestKind::ExitSignal { name, .. }, .. } => {
                let name = String::from_utf8_lossy(&name);
                self.session(recipient).map_or(Ok(()), |session| session.exit(&name))
            }
            Message::Close { recipient } => {
                self.close(recipient, Side::Guest);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn session(&mut self, client: u32) -> Option<&mut Session> {
        self.sessions.get_mut(&client).map(|numbered| &mut numbered.session)
    }

    fn request(&mut self, guest: u32, kind: &RequestKind) -> Result<(), RecordError> {
        let Some(client) = self.guest_numbers.get(&guest) else { return Ok(()) };
        let Some(Numbered { session, .. }) = self.sessions.get_mut(client) else { return Ok(()) };
        match kind {
            RequestKind::Pty(pty) => session.terminal(pty),
            RequestKind::WindowChange(size) => session.resize(*size)?,
            _ => {}
        }
        match Start::of(kind) {
            Some(start) => session.start(&self.recorder, &self.origin, &start),
            None => Ok(()),
        }
    }

    /// Once both sides have closed the channel its numbers may be given to another one.
    fn close(&mut self, client: u32, by: Side) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        match session.closed_by {
            None => session.closed_by = Some(by),
            Some(first) if first != by => {
                if let Some(Numbered { guest, session, .. }) = self.sessions.remove(&client) {
                    if let Some(guest) = guest {
                        self.guest_numbers.remove(&guest);
                    }
                    let recorder = self.recorder.clone();
                    tokio::spawn(async move { session.end(&recorder).await });
                }
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
