//! Watches the packets of a connection while they pass, and records its sessions. It changes none and delays none.

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;
use sparks_ssh::wire::{ChannelKind, Message, RequestKind, WindowSize};

use super::{
    RecordError, Recorder,
    cast::{Event, Header, Origin, Term},
    store::Recording,
};

/// Most bytes of the output of a command without terminal that are recorded.
const PLAIN_LIMIT: usize = 1 << 20;
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
    sessions: HashMap<u32, Session>,
    /// The guest's number to the client's, for what the client says.
    guest_numbers: HashMap<u32, u32>,
}

#[derive(Default)]
struct Session {
    guest: Option<u32>,
    term: Option<Term>,
    recording: Option<Recording>,
    /// Bytes recorded of a command without terminal.
    plain: usize,
    /// No more of its output is recorded.
    is_muted: bool,
    closed_by: Option<Side>,
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
        for (_, session) in self.sessions.drain() {
            end(&self.recorder, session).await;
        }
    }

    fn client_says(&mut self, message: Message) -> Result<(), RecordError> {
        match message {
            Message::Open { sender, kind: ChannelKind::Session, .. } => {
                if self.sessions.len() >= MAX_SESSIONS {
                    return Err(RecordError::TooManySessions);
                }
                self.sessions.insert(sender, Session::default());
                Ok(())
            }
            Message::Request { recipient, kind, .. } => self.request(recipient, kind),
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
                self.output(recipient, &data)
            }
            Message::Request { recipient, kind: RequestKind::ExitStatus { status }, .. } => {
                self.event(recipient, &Event::Exit(&status.to_string()))
            }
            Message::Request { recipient, kind: RequestKind::ExitSignal { name, .. }, .. } => {
                self.event(recipient, &Event::Exit(&String::from_utf8_lossy(&name)))
            }
            Message::Close { recipient } => {
                self.close(recipient, Side::Guest);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn request(&mut self, guest: u32, kind: RequestKind) -> Result<(), RecordError> {
        let Some(client) = self.guest_numbers.get(&guest).copied() else { return Ok(()) };
        match kind {
            RequestKind::Pty(pty) => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.term = Some(Term {
                        kind: Some(String::from_utf8_lossy(&pty.term).into_owned()),
                        ..term(pty.size)
                    });
                }
                Ok(())
            }
            RequestKind::WindowChange(size) => {
                let Term { cols, rows, .. } = term(size);
                self.event(client, &Event::Resize { cols, rows })
            }
            RequestKind::Shell => self.begin(client, None),
            RequestKind::Exec { command } => {
                self.begin(client, Some(String::from_utf8_lossy(&command).into_owned()))
            }
            RequestKind::Subsystem { name } => {
                self.begin(client, Some(format!("subsystem {}", String::from_utf8_lossy(&name))))?;
                self.mute(client, "what a subsystem transfers is not recorded")
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, client: u32, command: Option<String>) -> Result<(), RecordError> {
        let Some(session) = self.sessions.get_mut(&client) else { return Ok(()) };
        if session.recording.is_some() {
            return Ok(());
        }
        let header = Header {
            version: 3,
            term: session.term.clone().unwrap_or(Term { cols: 80, rows: 24, kind: None }),
            timestamp: Some(jiff::Timestamp::now().as_second()),
            command,
            sparks: Origin { tty: session.term.is_some(), ..self.origin.clone() },
        };
        session.recording = Some(self.recorder.begin(&header)?);
        Ok(())
    }

    fn output(&mut self, client: u32, data: &[u8]) -> Result<(), RecordError> {
        let Some(session) = self.sessions.get_mut(&client) else { return Ok(()) };
        if session.is_muted {
            return Ok(());
        }
        if session.term.is_none() {
            session.plain += data.len();
            if data.contains(&0) {
                return self.mute(client, "output that is no text is not recorded");
            }
            if session.plain > PLAIN_LIMIT {
                return self.mute(client, "more than 1 MiB of output without a terminal is not recorded");
            }
        }
        self.event(client, &Event::Output(data))
    }

    fn mute(&mut self, client: u32, why: &str) -> Result<(), RecordError> {
        self.event(client, &Event::Marker(why))?;
        if let Some(session) = self.sessions.get_mut(&client) {
            session.is_muted = true;
        }
        Ok(())
    }

    fn event(&mut self, client: u32, event: &Event<'_>) -> Result<(), RecordError> {
        let Some(session) = self.sessions.get_mut(&client) else { return Ok(()) };
        let Some(recording) = &mut session.recording else { return Ok(()) };
        recording.event(event, Instant::now()).inspect_err(|_| session.is_muted = true)
    }

    /// Once both sides have closed the channel its numbers may be given to another one.
    fn close(&mut self, client: u32, by: Side) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        match session.closed_by {
            None => session.closed_by = Some(by),
            Some(first) if first != by => {
                if let Some(session) = self.sessions.remove(&client) {
                    if let Some(guest) = session.guest {
                        self.guest_numbers.remove(&guest);
                    }
                    let recorder = self.recorder.clone();
                    tokio::spawn(async move { end(&recorder, session).await });
                }
            }
            Some(_) => {}
        }
    }
}

async fn end(recorder: &Recorder, session: Session) {
    if let Some(recording) = session.recording {
        recorder.end(recording).await;
    }
}

fn term(size: WindowSize) -> Term {
    // A client without a terminal says 0; nobody has one of more than this, which a player would try to make.
    let sane = |n: u32, default: u32| if n == 0 { default } else { n.min(10_000) };
    Term { cols: sane(size.columns, 80), rows: sane(size.rows, 24), kind: None }
}
